"""How requests flow: Envoy, driven over ADS and kept alive.

`EnvoyTraffic` is the one way in. What Envoy should do is computed by pure functions (`clusters`,
`routes`, `listeners`, put together in `xds`); `ads` tells it and waits for its answer; `proxy` runs
the processes; `sampler` counts what is in flight. Nothing outside this package knows Envoy or gRPC.
"""
