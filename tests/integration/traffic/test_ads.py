"""The discovery service, spoken to by a proxy of paper: what is said when, and what is heard."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message
from integration.traffic.bench import gateway, run, service

from volery.model.needs import Need
from volery.model.ports import Edge, TrafficConfig
from volery.traffic.ads import SERVICE, DiscoveryServer
from volery.traffic.xds import CLUSTERS, ENDPOINTS, LISTENERS, ROUTES, Snapshot, snapshot

PATIENCE_SECONDS = 30
FAR = "127.0.0.1:9"


class Paper:
    """A proxy that says what it is told to."""

    def __init__(self, call: grpc.aio.StreamStreamCall) -> None:
        self._call = call

    async def ask(self, url: str, *names: str) -> None:
        request = discovery_pb2.DiscoveryRequest(type_url=url, resource_names=names)
        request.node.id = "paper"
        await self._call.write(request)

    async def hear(self) -> Message:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self._call.read()

    async def accept(self, said: Message, *names: str) -> None:
        await self._call.write(
            discovery_pb2.DiscoveryRequest(
                type_url=said.type_url,
                version_info=said.version_info,
                response_nonce=said.nonce,
                resource_names=names,
            )
        )

    async def refuse(self, said: Message, words: str, *names: str) -> None:
        request = discovery_pb2.DiscoveryRequest(
            type_url=said.type_url, response_nonce=said.nonce, resource_names=names
        )
        request.error_detail.message = words
        await self._call.write(request)

    async def take(self, url: str, *names: str) -> Message:
        """Hear the next word, which must be of this type, and accept it."""
        said = await self.hear()
        assert said.type_url == url
        await self.accept(said, *names)
        return said


@contextlib.asynccontextmanager
async def conversation(home: Path) -> AsyncIterator[tuple[DiscoveryServer, Paper]]:
    server = DiscoveryServer(home / "ads.sock")
    await server.open()
    directory = os.open(home, os.O_PATH)
    try:
        target = f"unix:/proc/self/fd/{directory}/ads.sock"
        async with grpc.aio.insecure_channel(target) as channel:
            call = channel.stream_stream(
                f"/{SERVICE}/StreamAggregatedResources",
                request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
                response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
            )()
            yield server, Paper(call)
            call.cancel()
    finally:
        os.close(directory)
        await server.close()


def config(weight: int = 100, *more: str) -> TrafficConfig:
    names = ("web", *more)
    return TrafficConfig(
        gateway(8080),
        {name: service(a=(weight, FAR), b=(100 - weight, FAR)) for name in names},
        (Edge("front", "a", "web", 20_100, Need()),),
    )


WEB = ("web~a", "web~b")
LISTENING = ("front~a~web~20100", "gateway")


async def settle(paper: Paper, clusters: tuple[str, ...] = WEB) -> None:
    await paper.ask(CLUSTERS)
    await paper.take(CLUSTERS)
    await paper.ask(ENDPOINTS, *clusters)
    await paper.take(ENDPOINTS, *clusters)
    await paper.ask(LISTENERS)
    await paper.take(LISTENERS)
    await paper.ask(ROUTES, *LISTENING)
    await paper.take(ROUTES, *LISTENING)


def test_types_come_in_order_and_all_must_be_accepted(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            await paper.ask(LISTENERS)
            await paper.ask(CLUSTERS)
            delivering = asyncio.create_task(server.deliver(snapshot(config())))
            assert len((await paper.take(CLUSTERS)).resources) == 2
            await paper.ask(ENDPOINTS, *WEB)
            assert len((await paper.take(ENDPOINTS, *WEB)).resources) == 2
            assert len((await paper.take(LISTENERS)).resources) == 2
            await paper.ask(ROUTES, *LISTENING)
            said = await paper.hear()
            assert (said.type_url, len(said.resources)) == (ROUTES, 2)
            assert not delivering.done()
            assert not server.settled("paper")
            await paper.accept(said, *LISTENING)
            assert await delivering is None
            assert server.settled("paper")
            assert server.nodes == {"paper"}

    run(test())


def test_a_changed_weight_is_one_message(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            delivering = asyncio.create_task(server.deliver(snapshot(config(50))))
            await paper.take(ROUTES, *LISTENING)
            assert await delivering is None

    run(test())


def test_endpoints_follow_clusters_even_unchanged(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            before = snapshot(config())
            server.offer(before)
            await settle(paper)
            clusters = {name: type(item)() for name, item in before.types[CLUSTERS].items()}
            for name, item in before.types[CLUSTERS].items():
                clusters[name].CopyFrom(item)
                clusters[name].connect_timeout.seconds = 9
            delivering = asyncio.create_task(server.deliver(before.with_types(clusters=clusters)))
            said = await paper.hear()
            assert said.type_url == CLUSTERS
            # As Envoy does: clusters are accepted when they are complete.
            await paper.take(ENDPOINTS, *WEB)
            await paper.accept(said)
            assert await delivering is None

    run(test())


def test_routes_wait_for_the_endpoints_of_new_clusters(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            both = (*WEB, "new~a", "new~b")
            delivering = asyncio.create_task(server.deliver(snapshot(config(50, "new"))))
            said = await paper.hear()
            assert said.type_url == CLUSTERS
            await paper.accept(said)
            await paper.accept(endpoints_of(server), *both)
            assert len((await paper.take(ENDPOINTS, *both)).resources) == 4
            await paper.take(ROUTES, *LISTENING)
            assert await delivering is None

    run(test())


def endpoints_of(server: DiscoveryServer) -> Message:
    """The last endpoints that were sent, to be referred to."""
    (stream,) = server._streams
    known = stream.types[ENDPOINTS]
    return discovery_pb2.DiscoveryResponse(
        type_url=ENDPOINTS, version_info=str(known.sent.version), nonce=known.nonce
    )


def test_a_refusal_is_told_in_the_proxys_words(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            delivering = asyncio.create_task(server.deliver(snapshot(config(50))))
            await paper.refuse(await paper.hear(), "not like this", *LISTENING)
            assert await delivering == "not like this"
            assert not server.settled("paper")
            delivering = asyncio.create_task(server.deliver(snapshot(config())))
            await paper.take(ROUTES, *LISTENING)
            assert await delivering is None

    run(test())


def test_an_answer_to_something_older_is_not_an_answer(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            first = asyncio.create_task(server.deliver(snapshot(config(50))))
            old = await paper.hear()
            second = asyncio.create_task(server.deliver(snapshot(config(40))))
            new = await paper.hear()
            await paper.accept(old, *LISTENING)
            await paper.refuse(old, "too late", *LISTENING)
            await paper.accept(new, *LISTENING)
            assert (await first, await second) == (None, None)

    run(test())


def moved(address: str, *more: str) -> Snapshot:
    """The same with other endpoints of web, in its first group."""
    before = config(100, *more)
    web = service(a=(100, address), b=(0, FAR))
    return snapshot(replace(before, services={**before.services, "web": web}))


def test_only_what_changed_is_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            both = (*WEB, "more~a", "more~b")
            server.offer(snapshot(config(100, "more")))
            await settle(paper, both)
            delivering = asyncio.create_task(server.deliver(moved("127.0.0.1:10", "more")))
            said = await paper.take(ENDPOINTS, *both)
            assert [named(item) for item in said.resources] == ["web~a"]
            assert await delivering is None

    run(test())


def test_everything_is_sent_while_an_answer_is_missing(tmp_path: Path) -> None:
    """The proxy may have taken what it has not answered yet, and must be brought back from it."""

    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            first = asyncio.create_task(server.deliver(moved("127.0.0.1:10")))
            await paper.hear()
            second = asyncio.create_task(server.deliver(snapshot(config())))
            assert len((await paper.take(ENDPOINTS, *WEB)).resources) == 2
            assert (await first, await second) == (None, None)

    run(test())


def test_after_a_refusal_everything_is_sent(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            delivering = asyncio.create_task(server.deliver(moved("127.0.0.1:10")))
            await paper.refuse(await paper.hear(), "not like this", *WEB)
            assert await delivering == "not like this"
            delivering = asyncio.create_task(server.deliver(snapshot(config())))
            assert len((await paper.take(ENDPOINTS, *WEB)).resources) == 2
            assert await delivering is None

    run(test())


def test_what_was_refused_at_first_is_sent_when_it_is_offered_again(tmp_path: Path) -> None:
    """There was nothing before to go back to, and what was in its way may be gone."""

    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            for url in (CLUSTERS, LISTENERS):
                await paper.ask(url)
            delivering = asyncio.create_task(server.deliver(snapshot(config())))
            await paper.take(CLUSTERS)
            await paper.ask(ENDPOINTS, *WEB)
            await paper.take(ENDPOINTS, *WEB)
            await paper.refuse(await paper.hear(), "address in use")
            assert await delivering == "address in use"
            delivering = asyncio.create_task(server.deliver(snapshot(config())))
            await paper.take(LISTENERS)
            await paper.ask(ROUTES, *LISTENING)
            await paper.take(ROUTES, *LISTENING)
            assert await delivering is None

    run(test())


def test_what_was_wanted_no_more_is_sent_when_it_is_wanted_again(tmp_path: Path) -> None:
    async def test() -> None:
        async with conversation(tmp_path) as (server, paper):
            server.offer(snapshot(config()))
            await settle(paper)
            said = endpoints_of(server)
            await paper.accept(said, "web~a")
            await paper.accept(said, *WEB)
            again = await paper.take(ENDPOINTS, *WEB)
            assert [named(item) for item in again.resources] == ["web~b"]

    run(test())


def named(resource: Message) -> str:
    """Which cluster endpoints are of."""
    assignment = endpoint_pb2.ClusterLoadAssignment()
    resource.Unpack(assignment)
    return str(assignment.cluster_name)
