"""The interface of a venue, and its implementations: OANDA and the paper account."""
