"""How fast, on this machine, now: `make bench`."""
