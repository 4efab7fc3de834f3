"""A table is written for people, into its own section of a page, and can be read back."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import BENCHMARKS, page_of
from benchmarks.figures import median_ratio, milliseconds, percentile
from benchmarks.load import parsed as parsed_load
from benchmarks.results import Table, markdown, parsed, section, text, with_section

TABLE = Table(("how", "lost"), (("volery", "0"), ("a | b", "12")), ("Goal: none.",))
PAGE_TEXT = "# Page\n<!-- results of x -->\nold\n<!-- end of x -->\nrest\n"


def test_for_a_terminal_columns_are_aligned() -> None:
    assert text(TABLE).splitlines() == [
        "how     lost",
        "volery     0",
        "a | b     12",
        "Goal: none.",
    ]


def test_what_was_written_can_be_read() -> None:
    page = with_section(PAGE_TEXT, "x", markdown(TABLE))
    found = parsed(section(page, "x"))
    assert (found.columns, found.rows) == (TABLE.columns, TABLE.rows)


def test_only_the_section_is_rewritten() -> None:
    page = with_section(PAGE_TEXT, "x", "new")
    assert page == PAGE_TEXT.replace("old", "new")
    assert with_section(page, "x", "new") == page


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ValueError, match="no section y"):
        with_section(PAGE_TEXT, "y", "new")
    with pytest.raises(ValueError, match="no table"):
        parsed("nothing")


def test_a_row_has_as_many_cells_as_columns() -> None:
    with pytest.raises(ValueError, match="2 columns"):
        Table(("a", "b"), (("1",),))


def test_the_page_has_a_section_with_a_table_for_every_benchmark() -> None:
    for name in BENCHMARKS:
        page = page_of(name).read_text()
        assert parsed(section(page, name)).rows, name


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0004, "0.4 ms"), (0.0012, "1.2 ms"), (0.0123, "12 ms"), (2, "2000 ms")],
)
def test_milliseconds(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown


def test_percentiles_and_ratios() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([5.0], 0.99) == 5.0
    assert median_ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


WRK = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 32 connections
  Latency Distribution
     50%    1.32ms
     75%    1.88ms
     90%  950.00us
     99%    2.50s
  17425 requests in 1.02s, 2.33MB read
  Socket errors: connect 0, read 3, write 0, timeout 1
  Non-2xx or 3xx responses: 2
Requests/sec:  17068.25
Transfer/sec:      2.28MB
"""


def test_what_wrk_prints() -> None:
    found = parsed_load(WRK)
    assert (found.rate, found.requests, found.wrong) == (17068.25, 17425, 6)
    assert (round(found.p50, 6), found.p99) == (0.00132, 2.5)


def test_what_is_not_wrks_is_refused() -> None:
    with pytest.raises(ValueError, match="wrk did not say"):
        parsed_load("unable to connect")
