"""OANDA's v20 API: typed answers, the client and the two streams."""
