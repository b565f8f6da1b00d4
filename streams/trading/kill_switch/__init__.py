"""The kill switch, which blocks opening and increasing: a record in the log and a key in Valkey."""
