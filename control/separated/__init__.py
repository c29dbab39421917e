"""The daemon in several processes, each with no more rights than its role needs: docs/architecture.md, section 5.

`supervisor` is root and lets nobody in. It has the others forked by `cradle`, which never sees a secret, and gives each what
it needs through its bond (`bonds`). `life` is what a new process does until its role takes over.
"""
