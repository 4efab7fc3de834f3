"""The shim: the parent of exactly one supervised process.

Starts its process, reaps it, restarts it by a policy, stops it with everything it started, keeps
its log bounded and its limits in force, and writes down what happened; the same whether a control
plane is there or not. There is one per instance, so it uses the standard library only and imports
little of it; nothing else of Volery.

Its folder is the truth both ways: `spec.json` (given once), `control.json` (what is wished; SIGHUP
says look again), `state.json` (what is), `lock`, `log`, `log.1`, `log.index`, and `shim.log` with
its own complaints. The environment of the process may hold secrets and is never written anywhere.

Terms: the *tree* is the process and all its descendants, found also when they left group and
session, because the shim is their subreaper. A *phase* is running, waiting (for a restart),
stopping or ended.
"""
