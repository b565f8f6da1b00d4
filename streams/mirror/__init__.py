"""The Valkey mirror: a read model of the log that can be wiped and rebuilt at any time."""
