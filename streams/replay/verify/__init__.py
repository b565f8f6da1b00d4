"""Deriving again and comparing bytes, and the truncation test."""
