"""How a message gets out, and what came of it."""
