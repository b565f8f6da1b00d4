"""Filling a deployment with history, waiting for it, and proving that it is there."""
