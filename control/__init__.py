"""What is running, and do this to it: the composition root, its commands and its log."""
