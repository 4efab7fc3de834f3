"""The matrix has every cell, and a row says what was seen and nothing else."""

from __future__ import annotations

from benchmarks.faults.cases import FAULTS, LOADS, Cell, cells
from benchmarks.faults.cell import Seen, Watch
from benchmarks.faults.outcome import row
from volery.prober.report import ProbeReport, StreamReport


def test_every_fault_is_met_by_every_kind_it_is_for_under_every_load() -> None:
    found = list(cells(quick=False))
    assert len(found) == len(set(found)) == sum(len(f.kinds) for f in FAULTS) * len(LOADS)
    assert all(fault.because for fault in FAULTS)


def test_a_row_names_who_failed_and_why() -> None:
    streams = (
        StreamReport("GET", "http1", "", 1.0, 10, 8, 2, causes={"reset": 2}),
        StreamReport("POST", "http1", "", 1.0, 5, 5, 0),
    )
    seen = Seen(0.03, 0.4, ProbeReport(0.0, 1.0, streams), [{"kind": "instance.ready"}] * 2)
    cells = row(Cell("http", FAULTS[0], 20.0), [seen])
    assert cells[3:8] == ("15", "GET 2 (reset 2)", "30 ms", "400 ms", "ready x2")


def test_what_was_not_well_in_time_is_said_not_to_be() -> None:
    assert row(Cell("http", FAULTS[0], 20.0), [Seen(1.0, 2.0), Seen()])[5:7] == ("-", "-")


def test_only_what_victims_are_sent_counts() -> None:
    watch = Watch({"a"})
    watch.look({"b": 5})
    assert watch.grew == 0.0
    watch.look({"a": 1, "b": 6})
    assert watch.grew > 0.0
