"""Compiles the record schemas of ``schemas/`` into straight-line functions, both directions.

A general Avro library walks the schema for every value and goes through dictionaries; measured on
the hot records that costs three to eight times what these functions do. It also writes 1.5 into a
long as 1, writes NaN, and ignores what stands behind a record. The functions made here are held
byte for byte to fastavro by the property tests. They cover what the schemas use: string, bytes,
boolean, long, double, records, arrays and ``["null", T]``. Anything else is refused with
`UnsupportedSchema`, and reading falls back to fastavro.
"""
