"""OANDA's v20 API: settings, typed answers, the client and the two streams."""
