"""Checks of the environment of a deployment."""
