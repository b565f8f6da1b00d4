"""Migration to another topic prefix: input records are copied, the rest is derived again."""
