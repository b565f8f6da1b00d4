"""The OANDA v20 client: REST, streams, and what its answers mean."""
