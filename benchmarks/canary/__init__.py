"""How fast bad releases go and good ones come, end to end: real Envoy, real processes, real users.

See `cases` for what is deployed, `measure` for how, and docs/benchmarks-canary.md for the results.
"""
