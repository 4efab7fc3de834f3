"""What the benchmark of a retry storm makes of the seconds it saw."""

from __future__ import annotations

from xml.etree import ElementTree

from benchmarks.storm import CAPACITY, OURS, Seconds, Storm, goodput, picture, recovery

STORM = Storm(before=2, overload=4, after=6)


def test_the_load_is_too_much_for_as_long_as_the_overload_lasts() -> None:
    rates = [STORM.rate(second) / CAPACITY for second in range(STORM.whole)]
    assert rates == [0.5] * 2 + [2.0] * 4 + [0.5] * 6


def test_goodput_is_that_of_the_overload() -> None:
    seen = Seconds([10] * 12, [10, 10, 1, 2, 3, 4, 10, 10, 10, 10, 10, 10])
    assert goodput(seen, STORM) == 2.5


def test_it_has_recovered_when_nearly_all_is_answered_for_a_while() -> None:
    asked = [10] * 12
    assert recovery(Seconds(asked, [0] * 6 + [9] * 6), STORM) == 0
    assert recovery(Seconds(asked, [0] * 6 + [10, 10, 5, 9, 9, 9]), STORM) == 3
    assert recovery(Seconds(asked, [10] * 6 + [10, 10, 5, 10, 10, 5]), STORM) is None


def test_the_picture_has_a_line_for_each_and_one_for_what_was_asked() -> None:
    seen = Seconds([10] * 12, [5] * 12)
    tree = ElementTree.fromstring(picture({OURS: seen, "others": seen}, STORM))
    space = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f"{space}polyline")) == 3
    assert {OURS, "others", "asked for"} <= {item.text for item in tree.iter(f"{space}text")}
