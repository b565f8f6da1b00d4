"""The stages: pure steps from events to events, and what they share. No I/O in this package."""
