"""Candle feeds: files, OANDA, the synthetic market, and the writer of ``md.candles``."""
