"""The life of a process: signals, children, supervision, exit, the garbage collector, clocks."""
