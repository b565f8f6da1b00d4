"""One page, and the same as JSON, of what a deployment or a replay decided and what came of it."""
