"""Process management: signals, child processes, supervision, exit, garbage collector, clocks."""
