"""Read the log or files outside the worker: replay, verify, tail and snapshot."""
