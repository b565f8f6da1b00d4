"""Candles: rules, the trading calendar, tables of columns, and the file formats."""
