"""PostgreSQL of `examples/postgres-ha`, hurt under a client that remembers every commit.

`commits` is the client, `cluster` runs the recipe; tests and the benchmark share both.
"""
