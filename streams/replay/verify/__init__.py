"""Verification by re-derivation and byte comparison, and the truncation test."""
