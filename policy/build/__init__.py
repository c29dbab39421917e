"""From what was said to what it means: names are looked up, files opened, defaults filled in, and the result is frozen."""
