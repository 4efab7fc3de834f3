"""Synthetic requests go through the data plane as a user's do, while it changes under them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from integration.outside.asking import asker, synthetic
from integration.outside.hosts import answering, host, http
from integration.traffic.bench import apply, free_port, gateway, opened, service

from volery.model.ports import TrafficConfig


def test_none_is_lost_while_weights_move(tmp_path: Path) -> None:
    async def play() -> None:
        port = free_port()
        async with (
            host(answering(http("200 OK", b"", "connection: close"))) as one,
            host(answering(http("200 OK", b"", "connection: close"))) as two,
            opened(tmp_path) as traffic,
            asker() as ask,
        ):
            addresses = [f"127.0.0.1:{server.port}" for server in (one, two)]

            async def share(a: int, b: int) -> None:
                web = service(a=(a, addresses[0]), b=(b, addresses[1]))
                await apply(traffic, TrafficConfig(gateway(port), {"web": web}))

            await share(100, 0)
            ask.wish(s=synthetic(port, {"x-steer": "canary"}, path="/x?y=1", rate=100.0))
            for shares in ((50, 50), (0, 100), (100, 0), (0, 100)):
                seen = (await ask.until("s", lambda answer: answer.state == "yes")).value or 0
                await ask.until("s", lambda answer, seen=seen: (answer.value or 0) > seen + 20)  # type: ignore[misc]
                await share(*shares)
            answer = ask.world.observe()["s"]
            assert " sent, 0 failed" in answer.text, answer.text
            heads = [head for head, _ in (*one.requests, *two.requests)]
            assert one.requests and two.requests
            for head in heads:
                assert head.startswith("GET /x?y=1 HTTP/1.1\r\n")
                assert "user-agent: volery-synthetic\r\n" in head
                assert "x-steer: canary\r\n" in head

    asyncio.run(play())
