"""What lies in the log: topics, events, their Avro codec, control records, reasons."""
