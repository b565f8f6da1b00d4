"""Records of the log: topics, events, Avro codec, control records, reason codes."""
