"""Tables: the lists and mappings that rules, aliases and credentials are kept in, one kind a file."""
