"""From candles to weights: the stages, pure steps from events to events, and what runs them.

Only ``chain``, ``history`` and ``memory`` do I/O or run anything.
"""
