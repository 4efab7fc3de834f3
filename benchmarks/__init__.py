"""Benchmarks: every number in `docs/benchmarks.md`, measured again by `./task bench [NAME...]`.

Each module that is named in `__main__` has one function, `measure(options)`, which returns a table.
A figure stands next to a peer's, measured in the same run and in turns with it, because only a
ratio means something on another machine. Nothing here is a test: no run fails for being slow.
Peers are fetched into a cache folder outside the checkout; what the machine lacks is said aloud.
"""
