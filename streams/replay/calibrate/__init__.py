"""Pass rates of the guards over a stretch of candles, and thresholds for a wanted pass rate."""
