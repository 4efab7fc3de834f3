"""What a probe found, as frozen data, as JSON and as a short table.

`sent` counts every request that was due: `sent == ok + failed`, and `lost` is another word for
failed. `retried` and `retired` are no losses: see `volery.prober` for what counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from volery.model.units import format_duration
from volery.prober.latency import NOTHING, Latency


@dataclass(frozen=True)
class Sample:
    """One failure: seconds since the start of the probe, which stream, what happened."""

    at: float
    stream: str
    cause: str
    detail: str


@dataclass(frozen=True)
class StreamReport:
    """What became of one stream's requests."""

    name: str
    kind: str
    url: str
    rate: float
    sent: int = 0
    ok: int = 0
    failed: int = 0
    retried: int = 0
    """Requests sent again because the server promised it had not processed them."""
    retired: int = 0
    """Connections that the server ended between two requests."""
    causes: Mapping[str, int] = field(default_factory=dict)
    latency: Latency = NOTHING
    late: float = 0.0
    """Most seconds the probe itself started a request after it was due."""
    versions: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True)
class ProbeReport:
    """What a probe found. `started_at` is Unix seconds."""

    started_at: float
    seconds: float
    streams: tuple[StreamReport, ...]
    latency: Latency = NOTHING

    @property
    def sent(self) -> int:
        """Requests that were due."""
        return sum(stream.sent for stream in self.streams)

    @property
    def ok(self) -> int:
        """Requests that were answered rightly and completely."""
        return sum(stream.ok for stream in self.streams)

    @property
    def lost(self) -> int:
        """Requests that were not."""
        return sum(stream.failed for stream in self.streams)

    @property
    def causes(self) -> dict[str, int]:
        """Failures by cause, most frequent first."""
        return _added(stream.causes for stream in self.streams)

    @property
    def versions(self) -> dict[str, int]:
        """Answers by the release that gave them, most frequent first."""
        return _added(stream.versions for stream in self.streams)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The first failures, in order of time."""
        found = (sample for stream in self.streams for sample in stream.samples)
        return tuple(sorted(found, key=lambda sample: sample.at))

    def as_json(self) -> dict[str, object]:
        """One JSON document; durations are seconds."""
        return {
            "started_at": f"{datetime.fromtimestamp(self.started_at, UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            "seconds": round(self.seconds, 3),
            "sent": self.sent,
            "ok": self.ok,
            "failed": self.lost,
            "lost": self.lost,
            "causes": self.causes,
            "latency": asdict(self.latency),
            "versions": self.versions,
            "streams": [_without_samples(stream) for stream in self.streams],
            "samples": [asdict(sample) for sample in self.samples],
        }

    def render(self, samples: int = 5) -> str:
        """A plain table, then what failed and which releases answered."""
        rows: list[tuple[str, ...]] = [("stream", "sent", "ok", "lost", "p50", "p90", "p99", "max")]
        rows += [
            _row(stream.name, stream.sent, stream.ok, stream.failed, stream.latency)
            for stream in self.streams
        ]
        if len(self.streams) > 1:
            rows.append(_row("total", self.sent, self.ok, self.lost, self.latency))
        lines = _table(rows)
        lines.append(f"lost {self.lost} of {self.sent} requests in {format_duration(self.seconds)}")
        if self.causes:
            lines.append("causes: " + _pairs(self.causes))
        lines += [f"  {s.at:.2f}s {s.stream}: {s.cause} {s.detail}" for s in self.samples[:samples]]
        if self.versions:
            lines.append("answered by: " + _pairs(self.versions))
        return "\n".join(lines)


def _without_samples(stream: StreamReport) -> dict[str, object]:
    fields = asdict(stream)
    del fields["samples"]
    return fields


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total.most_common())


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _row(name: str, sent: int, ok: int, lost: int, latency: Latency) -> tuple[str, ...]:
    times = (latency.p50, latency.p90, latency.p99, latency.max)
    return (name, str(sent), str(ok), str(lost), *map(_milliseconds, times))


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}ms"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
