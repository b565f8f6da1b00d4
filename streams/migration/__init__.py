"""Carrying a deployment over to another topic prefix: the facts are copied, the rest is derived."""
