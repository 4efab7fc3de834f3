"""Asks one gate: a command, an HTTP hook, or a smoke test of every new instance.

| gate | yes | no | broken |
| --- | --- | --- | --- |
| command | exit code 0 | another exit code | not started, killed, late |
| hook | 2xx | 4xx, 5xx | not reached, late, another status: a redirect is not followed |
| smoke | every instance < 400 | one is not, or does not answer | there is no instance |

What follows from a no is the rollout's business.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from uuid import UUID, uuid5

from volery.calls import Calls, NoReply, Reply, Request
from volery.calls.exchange import address_of
from volery.calls.retry import TRIES
from volery.engines.probes import Target, ask
from volery.model.application import Probe
from volery.model.ports import Answer, GateCall
from volery.model.units import format_duration
from volery.outside.commands import run
from volery.outside.wording import Tail, first_line

QUESTIONS = UUID("6f2c7a0e-5d0b-4f0e-9a64-1c1f3f3d8b57")
HOOK_BODY_BYTES = 2**14
HOOK_BODY_SECONDS = 1.0
"""The status of a hook decides; its words are not waited for longer."""
ASKED_AT_ONCE = 50


async def ask_gate(key: str, call: GateCall, calls: Calls) -> Answer:
    """Its answer, within its time limit. `key` names the question for whoever is asked twice."""
    if call.gate.command is not None:
        return await _command(call, call.gate.command)
    url = call.gate.url or ""
    return await (_smoke(call, url) if url.startswith("/") else _hook(key, call, url, calls))


async def _command(call: GateCall, words: Sequence[str]) -> Answer:
    output = Tail()
    ended = await run(words, call, call.gate.timeout, output)
    said = output.last_line
    if ended.well:
        return Answer("yes", said or ended.text)
    text = f"{ended.text}: {said}" if said else ended.text
    return Answer("no" if ended.kind == "exit" else "broken", text)


async def _hook(key: str, call: GateCall, url: str, calls: Calls) -> Answer:
    request = Request(
        "POST",
        url,
        HOOK_BODY_BYTES,
        body=json.dumps(dict(call.about)).encode(),
        headers={"content-type": "application/json", "idempotency-key": _same(key, call)},
        body_seconds=HOOK_BODY_SECONDS,
        tries=TRIES,
    )
    try:
        reply = await calls.send(request, call.gate.timeout)
    except NoReply as why:
        return Answer("broken", str(why))
    return _judged(reply, address_of(url))


def _same(key: str, call: GateCall) -> str:
    """An Idempotency-Key: the same for one question however often it is sent, also by the control
    plane that comes after this one; the syntax is that of a structured header's string."""
    whole = "/".join((call.about.get("app", ""), call.about.get("environment", ""), key))
    return f'"{uuid5(QUESTIONS, whole)}"'


def _judged(reply: Reply, where: str) -> Answer:
    said = first_line(reply.body) if reply.whole or b"\n" in reply.body.strip() else ""
    text = f"{where} answered {reply.status}"
    if 300 <= reply.status < 400:
        return Answer("broken", f"{text}: redirects are not followed")
    if 200 <= reply.status < 300:
        return Answer("yes", said or text)
    if 400 <= reply.status < 600:
        said = "; ".join(filter(None, (said, reply.note)))
        return Answer("no", f"{text}: {said}" if said else text)
    return Answer("broken", text)


async def _smoke(call: GateCall, path: str) -> Answer:
    instances = sorted(call.subject.instances.items())
    if not instances:
        return Answer("broken", f"no ready instance of {call.subject.release} to ask {path}")
    deadline = asyncio.get_running_loop().time() + call.gate.timeout
    turns = asyncio.Semaphore(ASKED_AT_ONCE)
    found = await asyncio.gather(
        *(_asked(call, path, address, turns, deadline) for _, address in instances)
    )
    for (name, _), failure in zip(instances, found, strict=True):
        if failure:
            return Answer("no", f"{name}: {failure}")
    many = "1 instance" if len(instances) == 1 else f"{len(instances)} instances"
    return Answer("yes", f"GET {path}: fine on {many}")


async def _asked(
    call: GateCall, path: str, address: str, turns: asyncio.Semaphore, deadline: float
) -> str:
    """What is wrong with one instance, "" if nothing is."""
    host, _, port = address.rpartition(":")
    target = Target(host.strip("[]"), int(port), call.subject.protocol, "", {})
    async with turns:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return f"not asked within {format_duration(call.gate.timeout)}"
        answer = await ask(Probe(path=path), target, left)
    return "" if answer.ok else answer.text
