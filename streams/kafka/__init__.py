"""Kafka clients: reader, follower, transactions, lag, admin, registry."""
