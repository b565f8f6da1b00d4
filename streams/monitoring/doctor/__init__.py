"""Checks of the environment that a deployment runs in."""
