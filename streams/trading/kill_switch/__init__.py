"""One switch that stops opening and increasing: kept in the log, mirrored to Valkey."""
