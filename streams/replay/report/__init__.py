"""Report of a deployment's or a replay's decisions and results: one HTML page, and JSON."""
