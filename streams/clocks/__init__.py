"""This machine's clock, and those of the servers that it works with."""
