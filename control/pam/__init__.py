"""The helper that asks PAM: a process of root's own, which knows nothing else."""
