"""Pass rates of the guards over a range of candles, and thresholds for a target pass rate."""
