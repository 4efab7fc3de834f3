"""Redis of `examples/redis-ha`, hurt under a client that remembers every write a replica has, too.

`protocol` speaks to Redis, `writes` is the client, `cluster` runs the recipe.
"""
