"""manifold-streams: an event-sourced stream processor for FX candles on a Kafka-compatible log."""

__version__ = "0.1.0"
