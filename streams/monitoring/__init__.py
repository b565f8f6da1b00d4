"""What tells that a part of the live loop has stopped doing its work."""
