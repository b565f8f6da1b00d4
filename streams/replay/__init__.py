"""Reading the log (or files) outside Faust: replay, verify, tail and snapshot."""
