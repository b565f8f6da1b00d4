"""From candles to weights: the stages (pure steps from events to events) and their runtime.

Outside ``worker``, only ``chain``, ``history`` and ``memory`` do I/O or run stages.
"""
