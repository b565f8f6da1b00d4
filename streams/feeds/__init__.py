"""Candle sources: files, the synthetic market, and the writer that turns them into facts."""
