"""When, how many at once, and when do we give up."""
