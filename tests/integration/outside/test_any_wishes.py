"""Any history of wishes: exactly what is wished is known, and at the end nothing is left."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import psutil
import pytest
from integration.outside.asking import Asker, gate, metric, synthetic, with_asker
from integration.outside.hosts import answering, host, http
from integration.outside.prometheus import free_port

from volery.model.ports import OutsideCall

KEYS = "abcdefgh"
STEPS = 40


def choices(folder: Path, port: int) -> list[OutsideCall]:
    closed = f"http://127.0.0.1:{free_port()}"
    return [
        gate(folder, command="true"),
        gate(folder, command="sleep 600", timeout="300ms"),
        gate(folder, command=["sh", "-c", "setsid sleep 600 & sleep 600"], timeout="1h"),
        gate(url=f"http://127.0.0.1:{port}/"),
        gate(url="/smoke"),
        metric(folder, command="echo 1", every="100ms"),
        metric(folder, command="sleep 600", every="100ms", timeout="200ms"),
        metric(prometheus=closed, query="up", every="100ms"),
        metric(prometheus=f"http://127.0.0.1:{port}", query="up", every="100ms"),
        synthetic(port),
        synthetic(port, path="/other", rate=5.0),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_any_history(tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)

    async def play(ask: Asker) -> None:
        async with host(answering(http("200 OK"))) as server:
            offered = choices(tmp_path, server.port)
            for _ in range(STEPS):
                keys = source.sample(KEYS, source.randrange(len(KEYS)))
                calls = {key: source.choice(offered) for key in keys}
                ask.world.wish(calls)
                assert set(ask.world.observe()) == set(keys)
                await asyncio.sleep(source.choice((0, 0, 0.01, 0.1)))
                assert set(ask.world.observe()) == set(keys)
            await ask.world.close()
            assert ask.world.observe() == {}

    with_asker(play)
    left = [p for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(tmp_path)]
    assert left == []
