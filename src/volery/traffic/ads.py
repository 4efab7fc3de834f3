"""The aggregated discovery service: tells every Envoy what to do and waits for its answer.

One gRPC stream a proxy, state of the world, over a Unix socket only we may open. Clusters and their
endpoints come first; when they are acknowledged, listeners; then routes. Endpoints are sent again
after clusters and routes after listeners, even unchanged: a replaced one waits for them. Otherwise
only those endpoints and routes are sent that the proxy is not known to have.
Nothing is sent before there is something to say: a proxy that comes back from a control plane's
restart keeps what it has.

Terms: an *offer* is a snapshot with a version a type; a proxy has *settled* when it acknowledged
every type of the offer and asked for every resource in it; a *refusal* is its own words.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import Message

from volery.traffic import calm
from volery.traffic.messages import pack
from volery.traffic.xds import (
    CLUSTERS,
    ENDPOINTS,
    LISTENERS,
    ORDER,
    ROUTES,
    Resources,
    Snapshot,
    expected,
)

RUNTIME = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# A replaced cluster waits for its endpoints, a replaced listener for its routes.
COMPLETES = {ENDPOINTS: CLUSTERS, ROUTES: LISTENERS}
# Envoy acknowledges clusters only when it has their endpoints; the others one after the other.
TOGETHER = ((CLUSTERS, ENDPOINTS), (LISTENERS,), (ROUTES,))
STOP_SECONDS = 0.2


@dataclass(frozen=True)
class Offer:
    """A snapshot, the version of each of its types, and what has to be asked for by name."""

    snapshot: Snapshot
    versions: Mapping[str, int]
    names: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Told:
    """What a proxy was told of one type: the version, every resource there was, the names among
    them that it had asked for, and the version of the type that this one completes."""

    version: int = 0
    resources: Resources = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    completes: int = 0


@dataclass
class Subscription:
    """What one proxy wants of one type, was told last, and is known to have."""

    names: frozenset[str] = frozenset()
    nonce: str = ""
    sent: Told = Told()
    accepted: Told = Told()

    def has(self, version: int, names: frozenset[str]) -> bool:
        """Whether the proxy accepted this version and all of these names."""
        accepted = self.accepted.version == self.sent.version == version
        return accepted and names <= self.names <= self.sent.names

    def may_be_sent(self, version: int, names: frozenset[str]) -> bool:
        """Whether the proxy asked for all of it and has not been sent it."""
        told = self.sent.version == version and self.names <= self.sent.names
        return names <= self.names and not told

    def want(self, names: frozenset[str]) -> None:
        """Note what the proxy asks for; what it wants no more, it soon has no more."""
        if names != self.names:
            self.names = names
            self.sent = replace(self.sent, names=self.sent.names & names)
            self.accepted = replace(self.accepted, names=self.accepted.names & names)

    def lacking(self, resources: Resources, completes: int) -> list[Message]:
        """What has to be said of a type whose resources a proxy keeps until they are mentioned.

        Only what changed, if it is known for sure what the proxy has: it accepted what it was sent
        last, and the type that this one completes is the same.
        """
        known = self.accepted
        sure = known.version == self.sent.version and known.completes == completes
        had = known.resources if sure else {}
        asked = [(name, resources[name]) for name in self.names if name in resources]
        changed = [
            item
            for name, item in asked
            if name not in had
            or name not in known.names
            or (had[name] is not item and had[name] != item)
        ]
        return changed or [item for _, item in asked]


@dataclass(eq=False)
class Stream:
    """One proxy's conversation."""

    node: str = ""
    types: dict[str, Subscription] = field(default_factory=dict)
    borrows: bool = False
    outbox: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)


class DiscoveryServer:
    """Serves offers to proxies and tells when they settled."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._streams: set[Stream] = set()
        self._offer: Offer | None = None
        self._lease = calm.lease(())
        self._counter = itertools.count(1)
        self._changed = asyncio.Event()
        self._refusals: dict[str, str] = {}
        self._server: grpc.aio.Server | None = None
        self._directory = -1

    async def open(self) -> None:
        """Listen."""
        # The path of a Unix socket is limited to 107 bytes; seen from a directory's descriptor
        # every socket is near.
        self._directory = os.open(self._socket.parent, os.O_PATH | os.O_DIRECTORY)
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers([self._handler()])
        self._server.add_insecure_port(f"unix:/proc/self/fd/{self._directory}/{self._socket.name}")
        self._socket.chmod(0o600)
        await self._server.start()

    async def close(self) -> None:
        """Let go; proxies keep serving what they have and try to reconnect."""
        self._offer = None
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
            self._server = None
        if self._directory >= 0:
            self._socket.unlink(missing_ok=True)
            os.close(self._directory)
            self._directory = -1

    @property
    def nodes(self) -> frozenset[str]:
        """The proxies that are connected."""
        return frozenset(stream.node for stream in self._streams if stream.node)

    def settled(self, node: str) -> bool:
        """Whether this proxy has accepted the newest offer in full."""
        return any(stream.node == node and self._has_settled(stream) for stream in self._streams)

    def offer(self, snapshot: Snapshot) -> None:
        """Send this from now on."""
        versions = self._versions(snapshot)
        names = {url: self._expected(snapshot, url, versions) for url in ORDER}
        self._offer = Offer(snapshot, versions, names)
        self._refusals = {}
        for stream in self._streams:
            self._advance(stream)
        self._notify()

    def lend(self, lease: Message) -> None:
        """Say what holds only for a moment; it has to be said again and again."""
        self._lease = lease
        for stream in self._streams:
            self._lend(stream)

    async def deliver(self, snapshot: Snapshot) -> str | None:
        """Offer a snapshot and wait until every proxy settled; its words if one refuses."""
        self.offer(snapshot)
        await self.until(self._delivered)
        return next(iter(self._refusals.values()), None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that changes with what proxies say."""
        while not condition():
            await self._changed.wait()

    async def _converse(
        self, requests: AsyncIterator[Message], context: grpc.aio.ServicerContext
    ) -> None:
        """One proxy's stream."""
        stream = Stream()
        self._streams.add(stream)
        writing = asyncio.create_task(_write(stream, context))
        try:
            async for request in requests:
                self._hear(stream, request)
        finally:
            writing.cancel()
            self._streams.discard(stream)
            self._notify()

    def _handler(self) -> grpc.GenericRpcHandler:
        method = grpc.stream_stream_rpc_method_handler(
            self._converse,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAggregatedResources": method})

    def _hear(self, stream: Stream, request: Message) -> None:
        stream.node = request.node.id or stream.node
        if request.type_url == RUNTIME and not request.response_nonce:
            stream.borrows = True
            self._lend(stream)
        known = stream.types.get(request.type_url, Subscription())
        if request.type_url not in ORDER or request.response_nonce != known.nonce:
            return  # not ours to serve, or an answer to what has been superseded
        stream.types[request.type_url] = known
        known.want(frozenset(request.resource_names))
        if request.HasField("error_detail"):
            known.accepted = Told()
            if self._offer and known.sent.version == self._offer.versions[request.type_url]:
                words = request.error_detail.message or "refused without a reason"
                self._refusals[request.type_url] = words
        elif known.sent.version and request.version_info == str(known.sent.version):
            known.accepted = known.sent
        self._advance(stream)
        self._notify()

    def _advance(self, stream: Stream) -> None:
        """Send what this proxy lacks, if it has all that must come before."""
        offer = self._offer
        if offer is None:
            return
        for together in TOGETHER:
            lacking = [url for url in together if not self._has(stream, url)]
            for url in lacking:
                known = stream.types.get(url)
                if known is not None and known.may_be_sent(offer.versions[url], offer.names[url]):
                    self._send(stream, url, offer)
            if lacking:
                return

    def _has(self, stream: Stream, url: str) -> bool:
        offer, known = self._offer, stream.types.get(url)
        if offer is None:
            return False
        if url in COMPLETES and not offer.names[url]:
            return True
        return known is not None and known.has(offer.versions[url], offer.names[url])

    def _lend(self, stream: Stream) -> None:
        if stream.borrows:
            number = str(next(self._counter))
            stream.outbox.put_nowait(
                discovery_pb2.DiscoveryResponse(
                    type_url=RUNTIME,
                    version_info=number,
                    nonce=number,
                    resources=[pack(self._lease)],
                )
            )

    def _send(self, stream: Stream, url: str, offer: Offer) -> None:
        known, resources = stream.types[url], offer.snapshot.types[url]
        completes = offer.versions[COMPLETES[url]] if url in COMPLETES else 0
        chosen = list(resources.values())
        if url in COMPLETES:
            chosen = known.lacking(resources, completes)
        known.nonce = str(next(self._counter))
        known.sent = Told(offer.versions[url], resources, known.names, completes)
        stream.outbox.put_nowait(
            discovery_pb2.DiscoveryResponse(
                type_url=url,
                version_info=str(known.sent.version),
                nonce=known.nonce,
                resources=map(pack, chosen),
            )
        )

    def _versions(self, snapshot: Snapshot) -> dict[str, int]:
        """The same where nothing changed; what was refused is sent again, as why may be gone."""
        old = self._offer
        versions: dict[str, int] = {}
        for url in ORDER:
            completed = COMPLETES.get(url, url)
            if (
                old is not None
                and url not in self._refusals
                and old.snapshot.types[url] == snapshot.types[url]
                and versions.get(completed, old.versions[completed]) == old.versions[completed]
            ):
                versions[url] = old.versions[url]
            else:
                versions[url] = next(self._counter)
        return versions

    def _expected(
        self, snapshot: Snapshot, url: str, versions: Mapping[str, int]
    ) -> frozenset[str]:
        """As long as what a type completes is the same, so are the names asked for."""
        old, completed = self._offer, COMPLETES.get(url, url)
        if old is not None and old.versions[completed] == versions[completed]:
            return old.names[url]
        return expected(snapshot, url)

    def _has_settled(self, stream: Stream) -> bool:
        return all(self._has(stream, url) for url in ORDER)

    def _delivered(self) -> bool:
        named = [stream for stream in self._streams if stream.node]
        return bool(self._refusals) or (bool(named) and all(map(self._has_settled, named)))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _write(stream: Stream, context: grpc.aio.ServicerContext) -> None:
    while True:
        await context.write(await stream.outbox.get())
