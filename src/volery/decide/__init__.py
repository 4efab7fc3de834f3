"""What should happen next: pure functions of documents and observations.

No clock, no I/O, no randomness: everything comes in as an argument and goes out as a value, so
every decision can be tested by a table, replayed, and run a million times in the simulation.
"""
