"""Configurations written for OpenSMTPD before 6.4, said anew in the language that came with it."""
