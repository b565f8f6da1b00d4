"""Fills a deployment with history, waits until it is processed, and checks the result."""
