"""What the executor asks of a venue, and the venues: OANDA, and the book of paper trading."""
