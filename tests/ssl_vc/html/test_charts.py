"""Charts are valid XML, with values where the ticks say."""

import math
import re
from xml.etree import ElementTree

import pytest

from ssl_vc.html.charts import intervals_svg, lines_svg

SVG = "{http://www.w3.org/2000/svg}"


def drawn(series, title="title"):
    return ElementTree.fromstring(lines_svg(series, title, "across", "up"))


def lines(picture):
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        for line in picture.iter(f"{SVG}polyline")
    ]


def texts(picture):
    return [text.text for text in picture.iter(f"{SVG}text")]


def test_values_are_where_the_ticks_say():
    picture = drawn({"one": [(0, 10), (2, 30), (4, 20)]})
    ((first, second, third),) = lines(picture)
    assert second[0] == pytest.approx((first[0] + third[0]) / 2)
    assert second[1] < third[1] < first[1]  # up is up
    assert third[1] == pytest.approx((first[1] + second[1]) / 2)
    ticks = {text.text: (float(text.get("x")), float(text.get("y"))) for text in picture.iter(f"{SVG}text")}
    assert ticks["20"][1] == pytest.approx(third[1] + 4, abs=0.1)
    assert ticks["2"][0] == pytest.approx(second[0], abs=0.1)


def test_curves_have_a_legend_and_differ():
    picture = drawn({f"<{n} & co>": [(0, n), (1, n + 1)] for n in range(12)}, title="a < b & c")
    assert {f"<{n} & co>" for n in range(12)} <= set(texts(picture))
    assert {"a < b & c", "across", "up"} <= set(texts(picture))
    assert len({(line.get("stroke"), line.get("stroke-dasharray")) for line in picture.iter(f"{SVG}polyline")}) == 12


def test_values_that_are_not_finite_leave_a_gap():
    picture = drawn({"one": [(0, 1), (1, 2), (2, math.nan), (3, math.inf), (4, 2), (5, 1), (6, 1)]})
    assert [len(line) for line in lines(picture)] == [2, 3]


@pytest.mark.parametrize("values", [[], [math.nan], [5.0], [1e-9, 2e-9], [1e6, -1e6]])
def test_any_values_stay_inside(values):
    picture = drawn({"one": list(enumerate(values))})
    places = [place for line in lines(picture) for place in line]
    assert len(places) == sum(map(math.isfinite, values))
    assert all(64 <= x <= 530.1 and 43.9 <= y <= 368.1 for x, y in places)
    assert len(texts(picture)) >= 8


def test_ticks_can_be_chosen():
    chosen = {0.0: "one", 1.0: "two", 3.0: "<all>"}
    picture = ElementTree.fromstring(lines_svg({"a": [(1, 5), (3, 6)]}, "title", "across", "up", x_ticks=chosen))
    ((second, third),) = lines(picture)
    places = {text.text: float(text.get("x")) for text in picture.iter(f"{SVG}text") if text.text in chosen.values()}
    assert list(places) == ["one", "two", "<all>"]
    assert (places["two"], places["<all>"]) == pytest.approx((second[0], third[0]), abs=0.1)
    assert places["<all>"] - places["one"] == pytest.approx(3 * (places["two"] - places["one"]), abs=0.3)


def whiskers(picture):
    """Position (y, low, value, high) of each interval."""
    bars = [path.get("d") for path in picture.iter(f"{SVG}path") if path.get("stroke-width")]
    dots = [(float(dot.get("cy")), float(dot.get("cx"))) for dot in picture.iter(f"{SVG}circle")]
    ends = [tuple(map(float, re.fullmatch(r"M(.*) .*H(.*)", bar).groups())) for bar in bars]
    return [(y, low, x, high) for (y, x), (low, high) in zip(dots, ends, strict=True)]


def test_intervals_are_where_the_ticks_say():
    rows = {"one": (20.0, 10.0, 30.0), "two": (50.0, 40.0, 50.0)}
    picture = ElementTree.fromstring(intervals_svg(rows, "title", "across", digits=2))
    ticks = {text.text: float(text.get("x")) for text in picture.iter(f"{SVG}text")}
    one, two = whiskers(picture)
    assert one[1:] == pytest.approx([ticks["10"], ticks["20"], ticks["30"]], abs=0.2)
    assert two[1:] == pytest.approx([ticks["40"], ticks["50"], ticks["50"]], abs=0.2)
    heights = {text.text: float(text.get("y")) for text in picture.iter(f"{SVG}text")}
    assert heights["one"] < one[0] < heights["two"] < two[0] < heights["across"]  # a name is above its whisker
    assert {"20.00", "50.00"} <= set(texts(picture))


def test_an_unknown_interval_is_a_dash():
    rows = {"<a & b>": (math.nan, 1.0, 2.0), "c": (1.5, 1.0, 2.0)}
    picture = ElementTree.fromstring(intervals_svg(rows, "a < b & c", "across"))
    assert len(whiskers(picture)) == 1
    assert {"<a & b>", "a < b & c", "–", "1.5"} <= set(texts(picture))
