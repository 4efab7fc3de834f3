"""What the benchmark of canaries makes of what it saw."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks.canary.__main__ import PAGE
from benchmarks.canary.cases import BAD, GOOD, Case
from benchmarks.canary.outcome import Entry, Outcome, entries, outcome, table
from benchmarks.canary.picture import picture
from benchmarks.results import section
from benchmarks.svg import Line

BOOK = ["10.0000 1 0", "10.5000 2 1", "11.0000 2 0", "13.2500 2 1"]


def of(case: Case, causes: dict[str, int]) -> Outcome:
    mine = [entry for entry in entries(BOOK) if entry.version == "2"]
    return outcome(case, mine, causes, code=3, seconds=9.0, reason="why")


def test_the_book_is_read() -> None:
    assert entries(BOOK)[1] == Entry(10.5, "2", True)


def test_exposure_is_from_its_first_to_its_last_request() -> None:
    found = of(BAD[0], {"status_500": 2})
    assert (found.exposed, found.harmed, found.lost) == (2.75, 2, 0)


def test_what_no_release_failed_is_lost_by_the_machinery() -> None:
    assert of(BAD[0], {"status_500": 2, "status_503": 3, "reset": 1}).lost == 4
    dying = next(case for case in BAD if case.harms_all)
    found = of(dying, {"status_503": 3})
    assert (found.harmed, found.lost) == (3, 0)


def test_a_release_that_got_nothing_was_not_exposed() -> None:
    found = outcome(BAD[0], [], {}, code=3, seconds=1.0, reason="")
    assert (found.exposed, found.harmed) == (0.0, 0)


@pytest.mark.parametrize(
    ("case", "one", "held"),
    [
        (BAD[0], Outcome(3, 50.0, 1.9, 5, 0, ""), "yes"),
        (BAD[0], Outcome(3, 50.0, 2.1, 5, 0, ""), "no"),
        (BAD[0], Outcome(0, 1.0, 1.0, 5, 0, ""), "no"),
        (GOOD[0], Outcome(0, 80.0, 79.0, 0, 0, ""), "yes"),
        (GOOD[0], Outcome(0, 91.0, 79.0, 0, 0, ""), "no"),
        (GOOD[0], Outcome(3, 8.0, 7.0, 0, 0, ""), "no"),
    ],
)
def test_a_goal_is_met_by_the_worst_round_and_the_right_end(
    case: Case, one: Outcome, held: str
) -> None:
    assert table({case: [one]}).rows[0][-1] == held


def test_every_case_has_a_row_and_the_page_a_section() -> None:
    one = Outcome(0, 1.0, 1.0, 0, 2, "")
    found = table({case: [one, one] for case in (*BAD, *GOOD)})
    assert len(found.rows) == len(BAD) + len(GOOD)
    assert "lost by the machinery: 32; goal 0, met: no" in found.notes[0]
    assert "<!-- results of canary -->" in PAGE.read_text()
    assert section(PAGE.read_text(), "canary") is not None


def test_a_picture_is_svg_with_a_line_for_each_metric_the_limit_and_each_step() -> None:
    curves = [Line("errors", [(0.0, 1.0), (4.0, 1e9)]), Line("p50 < p99", [(0.0, 0.0)])]
    tree = ElementTree.fromstring(picture("Evidence & more", curves, 100, [1.0, 2.0]))
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f"{space}polyline")) == 2 + 1 + 2
    words = [item.text for item in tree.findall(f"{space}text")]
    assert {"Evidence & more", "p50 < p99", "100:1 decides", "4"} <= set(words)
    assert picture("nothing", [], 100, []).endswith("</svg>\n")
