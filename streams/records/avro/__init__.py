"""Compile the record schemas of ``schemas/`` into straight-line encoders and decoders.

A general Avro library walks the schema for every value and builds dictionaries, which takes three
to eight times as long for the frequent records. It also encodes 1.5 into a long as 1, encodes NaN,
and ignores trailing bytes. Property tests compare these functions with fastavro byte for byte.
Supported types: string, bytes, boolean, long, double, records, arrays and ``["null", T]``. Other
types raise `UnsupportedSchema`, and decoding falls back to fastavro.
"""
