"""The state of a running deployment: status, why, alerts, preflight."""
