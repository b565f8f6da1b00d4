"""The room of the Kafka clients: reader, follower, transactions, lag, admin, registry."""
