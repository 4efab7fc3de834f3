"""What leads to a canary through a real Envoy, what is copied to it, and that its failures show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from integration.traffic.bench import client, eventually, run
from integration.traffic.stage import TAGGED, Headers, ask, names, near, refusing, stage, web
from integration.traffic.upstreams import ECHO, grpc_echo, websocket_echo
from websockets.asyncio.client import connect

from volery.model.deploy import Override, Sticky
from volery.model.needs import Need, Retry
from volery.traffic import split

# --- reaching the canary on purpose ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "hit", "misses"),
    [
        (
            Override(header="X-Track"),
            [("x-track", "canary")],
            [[("x-track", "canary2")], [("x-track", "")], []],
        ),
        (
            Override(cookie="track", value="b; ~" + "x" * 250),
            [("cookie", "a=1; track=b; ~" + "x" * 250)],
            [[("cookie", "track=b")], [("cookie", "xtrack=b; ~" + "x" * 250)]],
        ),
    ],
    ids=["header", "cookie"],
)
def test_an_override_reaches_the_canary_while_it_can_answer(
    tmp_path: Path, override: Override, hit: Headers, misses: list[Headers]
) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0, override=override, sticky=Sticky(cookie="who"))
            for port in (at.port, at.inside.port):
                assert (await ask(port, hit))["name"] == "canary"
                for miss in misses:
                    assert (await ask(port, miss))["name"] == "stable"
            await at.be(web((100, at.stable.address), (0, None), override=override))
            for port in (at.port, at.inside.port):
                assert (await ask(port, hit))["name"] == "stable"

    run(test())


def test_what_is_no_text_beside_them_hides_neither_cookie_nor_tag(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0, override=Override(cookie="track"))
            chosen = [(b"cookie", b"x=\xfc; track=canary; y=\xff")]
            tagged = [(b"baggage", b"x=\xfc,volery-track=canary;p=\xff")]
            for port in (at.port, at.inside.port):
                assert (await ask(port, chosen))["name"] == "canary"
            assert (await ask(at.inside.port, tagged))["name"] == "canary"
            going = await ask(at.inside.port, [*chosen, (b"baggage", b"x=\xfc")])
            assert "".join(going["baggage"]).endswith(",volery-track=canary")

    run(test())


def test_what_went_through_a_canary_says_so_once_and_goes_on_to_canaries(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            override = Override(header="x-go")
            go = [("x-go", "canary")]
            await at.splits(100, 0, override=override)
            for port in (at.port, at.inside.port):
                assert (await ask(port, go))["baggage"] == ["volery-track=canary"]
                mine = [*go, ("baggage", "user=1;p=2"), ("baggage", "cart=3")]
                assert (await ask(port, mine))["baggage"] == [
                    "user=1;p=2,cart=3,volery-track=canary"
                ]
                assert (await ask(port))["baggage"] == []
            tagged = await ask(at.inside.port, [*go, *TAGGED])
            assert tagged == {"name": "canary", "baggage": ["volery-track=canary"], "cookie": None}
            assert (await ask(at.port, TAGGED))["name"] == "stable"

            await at.splits(0, 100)
            assert (await ask(at.port))["baggage"] == ["volery-track=canary"]
            await at.splits(50, 50, sticky=Sticky(header="x-user"))
            for index in range(20):
                found = await ask(at.port, [("x-user", f"user-{index}")])
                assert bool(found["baggage"]) == (found["name"] == "canary")

            await at.be(web((100, at.stable.address), (0, None)))
            assert (await ask(at.inside.port, TAGGED))["name"] == "stable"

    run(test())


def test_what_went_through_a_canary_goes_by_weight_where_it_would_be_too_much(
    tmp_path: Path,
) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0, mirror=100, tagged=False)
            found = await ask(at.inside.port, TAGGED)
            assert (found["name"], found["baggage"]) == ("stable", ["volery-track=canary"])
            await at.splits(70, 30, tagged=False)
            many = await names(at.inside.port, 400, lambda _: "baggage: volery-track=canary\r\n")
            assert near(many.count("canary"), 400, 0.3)

    run(test())


@pytest.mark.parametrize(
    "member",
    [
        "volery-track=canary",
        " volery-track = canary",
        "volery-other",
        "volery%2Dtrack=canary",
        "%76olery-track=canary",
        "+volery-track=canary",
        "fit=x",
        "f%69t=x",
    ],
)
def test_nobody_outside_speaks_for_us(tmp_path: Path, member: str) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0)
            found = await ask(at.port, [("baggage", f"a=1,{member},my-volery-x=2,b=volery-x")])
            assert found["name"] == "stable"
            assert found["baggage"] == ["a=1,my-volery-x=2,b=volery-x"]

    run(test())


@pytest.mark.parametrize("odd", [b"\xff", b"\xc3\x28", b"a=\xe9", b""])
def test_nor_does_what_is_no_text(tmp_path: Path, odd: bytes) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0)
            found = await ask(at.port, [(b"baggage", odd), (b"baggage", b"volery-track=canary")])
            assert found["name"] == "stable"
            assert "volery-track" not in "".join(found["baggage"])

    run(test())


# --- mirroring ------------------------------------------------------------------------------------


def test_copies_of_safe_requests_reach_the_canary_and_its_answers_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with stage(tmp_path) as at:
            await at.splits(100, 0, mirror=100.0)
            for _ in range(20):
                assert (await ask(at.port, method="POST"))["name"] == "stable"
            await at.splits(100, 0, mirror=100.0, mirror_all=True)
            assert (await ask(at.port, method="POST"))["name"] == "stable"
            await eventually(lambda: at.canary.requests == 1, "the copy of one POST")
            await at.splits(100, 0, mirror=100.0, override=Override(header="x-go"))
            assert (await ask(at.port, [("x-go", "canary")]))["name"] == "canary"
            assert at.canary.requests == 2
            await at.splits(100, 0, mirror=25.0)
            assert set(await names(at.port, 400)) == {"stable"}
            assert set(await names(at.inside.port, 400)) == {"stable"}
            assert at.stable.requests == 21 + 800
            await eventually(lambda: near(at.canary.requests - 2, 800, 0.25), "copies arrived")

    run(test())


@pytest.mark.parametrize("state", ["slow", "dead"])
def test_users_do_not_notice_a_mirror_that_does_not_answer(
    tmp_path: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(split, "MIRROR_MILLISECONDS", 500)

    async def test() -> None:
        async with stage(tmp_path) as at:
            with refusing() as dead:
                target = dead if state == "dead" else at.canary.address
                at.stable.release.set()
                await at.be(web((100, at.stable.address), (0, target), mirror=100.0))
                async with client(at.port) as http:
                    for _ in range(30):
                        answer = await http.get("/slow")
                        assert (answer.status_code, answer.json()["name"]) == (200, "stable")
                if state == "slow":
                    await eventually(lambda: at.canary.waiting == 30, "copies wait")
                await eventually(lambda: not at.traffic.observe().in_flight, "copies are given up")

    run(test())


def test_neither_websockets_nor_grpc_calls_are_copied(tmp_path: Path) -> None:
    async def test() -> None:
        async with (
            stage(tmp_path) as at,
            websocket_echo() as echo,
            grpc_echo("stable") as first,
            grpc_echo("canary") as second,
        ):
            mirror: dict[str, Any] = {"mirror": 100.0, "mirror_all": True}
            await at.be(web((100, echo), (0, at.canary.address), **mirror))
            async with connect(f"ws://127.0.0.1:{at.port}/") as talk:
                await talk.send("hi")
                assert await talk.recv() == "hi"
            await at.be(web((100, first), (0, second), protocol="grpc", **mirror))
            for port in (at.port, at.inside.port):
                assert await say(port) == "stable:hi"
                assert await say(port, TAGGED) == ("canary:hi" if port != at.port else "stable:hi")
            assert at.canary.requests == 0

    run(test())


async def say(port: int, metadata: Headers | None = None) -> str:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            ECHO,
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        answer = await call(StringValue(value="hi"), timeout=30, metadata=metadata)
        return str(answer.value)


# --- failures of the canary -----------------------------------------------------------------------


def test_no_retry_hides_a_canary_that_cannot_be_reached(tmp_path: Path) -> None:
    retry = Need(retry=Retry(attempts=2, on=("connect", "reset", "5xx")))

    async def test() -> None:
        async with stage(tmp_path, retry) as at:
            with refusing() as dead:
                await at.be(web((70, at.stable.address), (30, dead)))
                for port in (at.port, at.inside.port):
                    async with client(port) as http:
                        found = [(await http.get("/")).status_code for _ in range(100)]
                    assert set(found) == {200, 503}
                    assert near(found.count(503), 100, 0.3)

    run(test())


def test_a_retry_stays_in_the_group(tmp_path: Path) -> None:
    retry = Need(retry=Retry(attempts=4, on=("5xx",)))

    async def test() -> None:
        async with stage(tmp_path, retry) as at:
            await at.splits(50, 50, override=Override(header="x-go"))
            async with client(at.inside.port) as http:
                failed = await http.get("/status/500", headers=[("x-go", "canary")])
            assert failed.json()["name"] == "canary"
            assert (at.canary.requests, at.stable.requests) == (4, 0)

    run(test())
