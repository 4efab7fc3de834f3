"""The gateway as Volery configures it, against plain proxies, all before the same upstream.

The reference is a minimal Envoy configuration written by hand. Rounds go in turns through all
proxies, so that whatever else the machine does meets all of them; ratios are medians of the ratios
within a round. The load is a closed loop of `wrk`; the upstream is an Envoy that answers by itself.
On few cores load, proxy and upstream compete, so the proxy's own processor time a request stands
next to the rate: it hardly depends on what else runs.

To say where a difference comes from, the generated configuration is measured some more times: as a
file in an Envoy without a shim, with breakers in place as if something failed, and with one part
after the other taken away.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from string import Template

import psutil
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from benchmarks.data_plane import gateway, service, serving
from benchmarks.figures import median_ratio, met, milliseconds, ratio
from benchmarks.load import Load, available, load
from benchmarks.options import Options, say
from benchmarks.processes import free_port, listens, processor_seconds, running, until
from benchmarks.results import Line, Table
from volery.model.ports import TrafficConfig
from volery.traffic import bootstrap, calm, xds
from volery.traffic.proxy import envoy_binary, known

CONFIGS = Path(__file__).parent / "configs"
WORKERS = 2
CONNECTIONS = 32
SERVICE = "web"
GOAL_RATE, GOAL_P99 = 0.90, 1.15
REFERENCE = "Envoy, minimal configuration by hand"
VOLERY = "volery's gateway"
WITH_BREAKERS = "- as a file, while something fails"
COLUMNS = ("proxy", "requests/s", "ratio", "p99", "ratio", "CPU a request", "ratio")


@dataclass(frozen=True)
class Proxy:
    """One that is measured: where it listens, and the processes whose time counts."""

    name: str
    port: int
    pids: Sequence[int]

    def processor_seconds(self) -> float:
        """What it has used until now."""
        return sum(map(processor_seconds, self.pids))


@dataclass(frozen=True)
class Round:
    """One proxy's turn."""

    load: Load
    processor: float
    """Seconds of the proxy's processors a request."""


def measure(options: Options) -> Table:
    """Throughput, 99th percentile and processor time, against the reference in the same rounds."""
    if not available():
        say("gateway: nothing measured, `wrk` is missing (apt-get install wrk)")
        return Table(COLUMNS, (), ("Not measured: `wrk` is missing.",))
    rounds, seconds = options.size((15, 3.0), (2, 1.0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="volery-bench-")))
        proxies = _proxies(stack, folder)
        found: dict[str, list[Round]] = {proxy.name: [] for proxy in proxies}
        for number in range(rounds + 1):
            for proxy in proxies if number % 2 else reversed(proxies):
                turn = _turn(proxy, seconds if number else 1.0, folder)
                if number:  # the first round only warms up
                    found[proxy.name].append(turn)
            say(f"gateway: round {number} of {rounds}")
    return _table(found)


def _turn(proxy: Proxy, seconds: float, folder: Path) -> Round:
    before = proxy.processor_seconds()
    result = load(f"http://127.0.0.1:{proxy.port}/", seconds, CONNECTIONS, folder)
    if result.wrong:
        raise RuntimeError(f"{proxy.name}: {result.wrong} of {result.requests} answers were wrong")
    return Round(result, (proxy.processor_seconds() - before) / result.requests)


def _table(found: Mapping[str, Sequence[Round]]) -> Table:
    rows = [_row(rounds, found[REFERENCE], name) for name, rounds in found.items()]
    ours, theirs = found[VOLERY], found[REFERENCE]
    rate = median_ratio(_rates(ours), _rates(theirs))
    p99 = median_ratio(_p99s(ours), _p99s(theirs))
    notes = (
        f"Ratios: to {REFERENCE}. Goals for {VOLERY}: throughput at least {GOAL_RATE:.2f}x (met: "
        f"{met(rate >= GOAL_RATE)}), p99 at most {GOAL_P99:.2f}x (met: {met(p99 <= GOAL_P99)}).",
        f"Median of {len(ours)} rounds in turns, {CONNECTIONS} connections, {WORKERS} workers each,"
        " one small answer.",
    )
    return Table(COLUMNS, rows, notes)


def _row(rounds: Sequence[Round], reference: Sequence[Round], name: str) -> Line:
    times = [item.processor for item in rounds]
    return (
        name,
        f"{median(_rates(rounds)):,.0f}",
        ratio(median_ratio(_rates(rounds), _rates(reference))),
        milliseconds(median(_p99s(rounds))),
        ratio(median_ratio(_p99s(rounds), _p99s(reference))),
        f"{median(times) * 1e6:.0f} µs",
        ratio(median_ratio(times, [item.processor for item in reference])),
    )


def _rates(rounds: Sequence[Round]) -> list[float]:
    return [item.load.rate for item in rounds]


def _p99s(rounds: Sequence[Round]) -> list[float]:
    return [item.load.p99 for item in rounds]


# --- the proxies ----------------------------------------------------------------------------------


def _proxies(stack: ExitStack, folder: Path) -> list[Proxy]:
    """Everything that is measured, running."""
    upstream = _envoy(stack, folder, "upstream", _filled("upstream.yaml", port=free_port())).port
    return [
        _volery(stack, folder / "volery", upstream),
        _envoy(
            stack, folder, REFERENCE, _filled("envoy.yaml", port=free_port(), upstream=upstream)
        ),
        *_variants(stack, folder, upstream),
        *_plain(stack, folder, upstream),
    ]


@dataclass(frozen=True)
class Filled:
    """A configuration for one port."""

    port: int
    content: bytes
    suffix: str = ".yaml"


def _filled(template: str, port: int, upstream: int = 0) -> Filled:
    given = {"port": port, "upstream": upstream, "workers": WORKERS}
    content = Template((CONFIGS / template).read_text()).substitute(given)
    return Filled(port, content.encode(), Path(template).suffix)


def _volery(stack: ExitStack, home: Path, upstream: int) -> Proxy:
    port = free_port()
    stack.enter_context(serving(home, _configuration(port, upstream)))
    until(lambda: asyncio.run(_is_calm(home)), "nothing fails", pause=0.2)
    pids = [proxy.pid for proxy in known(home)]
    return Proxy(VOLERY, port, [pid for pid in pids if pid])


async def _is_calm(home: Path) -> bool:
    """Whether Envoy has been told that it can do without breakers."""
    [proxy] = known(home)
    try:
        told = await proxy.admin.ask("/runtime")
    finally:
        await proxy.admin.close()
    return all(key in told for key in calm.layer([SERVICE]))


def _configuration(port: int, upstream: int) -> TrafficConfig:
    services = {SERVICE: service("http", {f"{SERVICE}-1": upstream})}
    return TrafficConfig(gateway(port, {"/": SERVICE}), services)


def _envoy(stack: ExitStack, folder: Path, name: str, filled: Filled) -> Proxy:
    """An Envoy with a file."""
    own = folder / name.replace(" ", "-").replace("/", "-")
    own.mkdir()
    path = own / f"envoy{filled.suffix}"
    path.write_bytes(filled.content)
    command = [envoy_binary(), "--config-path", str(path), "--concurrency", str(WORKERS)]
    command += ["--disable-hot-restart", "--log-level", "warning"]
    return _started(stack, name, filled.port, command, own)


def _variants(stack: ExitStack, folder: Path, upstream: int) -> list[Proxy]:
    """The generated configuration as a file, and what is left when parts are taken away."""
    variants: Mapping[str, Callable[[hcm_pb2.HttpConnectionManager], None]] = {
        "- as a file": lambda _: None,
        WITH_BREAKERS: lambda _: None,
        "- without access log": _without_log,
        "- nor statistics": _without_any_log,
        "- nor border": _bare,
    }
    return [
        _envoy(stack, folder, name, _generated(upstream, change, name != WITH_BREAKERS))
        for name, change in variants.items()
    ]


def _generated(
    upstream: int, change: Callable[[hcm_pb2.HttpConnectionManager], None], quiet: bool
) -> Filled:
    port = free_port()
    complete = bootstrap_pb2.Bootstrap.FromString(
        bootstrap.fallback(xds.snapshot(_configuration(port, upstream)))
    )
    if quiet:
        layer = complete.layered_runtime.layers.add(name=calm.LAYER)
        layer.static_layer.update(calm.layer([SERVICE]))
    for listener in complete.static_resources.listeners:
        settings = listener.filter_chains[0].filters[0].typed_config
        manager = hcm_pb2.HttpConnectionManager()
        settings.Unpack(manager)
        change(manager)
        settings.Pack(manager)
    return Filled(port, complete.SerializeToString(), ".pb")


def _without_log(manager: hcm_pb2.HttpConnectionManager) -> None:
    """Statistics are access loggers too; the log is the one that writes."""
    written = [log for log in manager.access_log if "stdout" in log.name]
    for log in written:
        manager.access_log.remove(log)


def _without_any_log(manager: hcm_pb2.HttpConnectionManager) -> None:
    del manager.access_log[:]


def _bare(manager: hcm_pb2.HttpConnectionManager) -> None:
    """Only the router is left, with routes and limits as they are."""
    _without_any_log(manager)
    del manager.early_header_mutation_extensions[:]
    del manager.http_filters[:-1]
    for host in manager.route_config.virtual_hosts:
        for route in host.routes:
            route.typed_per_filter_config.clear()


def _plain(stack: ExitStack, folder: Path, upstream: int) -> list[Proxy]:
    """nginx and HAProxy, where they are installed."""
    commands = {
        "nginx": ("nginx.conf", ["-p", ".", "-c"]),
        "haproxy": ("haproxy.cfg", ["-db", "-f"]),
    }
    found = []
    for name, (template, flags) in commands.items():
        program = shutil.which(name)
        if program is None:
            say(f"gateway: {name} is left out, it is not installed (apt-get install {name})")
            continue
        own = folder / name
        own.mkdir()
        filled = _filled(template, free_port(), upstream)
        (own / template).write_bytes(filled.content)
        command = [program, *flags, str(own / template)]
        found.append(_started(stack, name, filled.port, command, own))
    return found


def _started(stack: ExitStack, name: str, port: int, command: Sequence[str], folder: Path) -> Proxy:
    process = stack.enter_context(running(command, folder / "output"))
    until(lambda: listens(port), f"{name} listens")
    workers = psutil.Process(process.pid).children(recursive=True)
    return Proxy(name, port, [process.pid, *(worker.pid for worker in workers)])
