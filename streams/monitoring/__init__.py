"""What is known of a running deployment now: status, why, alerts, preflight."""
