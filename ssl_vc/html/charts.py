"""Line charts and interval charts as SVG, without a plotting library.

A chart is dark on white, to work as a file; a page with another background sets `color`, and the `fill` of `rect`.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 800, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 270, 44, 52  # margins; the right one holds the legend
NARROW = 400  # width of a chart that fits a phone
FIRST, STEP = 70, 36  # position of its first row, and distance of rows
INSET = 22  # of its axis
MAX_MARKERS = 40  # a curve with more points has no markers
# colour-blind safe (Okabe and Ito, 2008); dashed where the colours repeat
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "currentColor")
DASHES = ("none", "7 4", "2 3")

FAINT, SOFT = 'stroke="currentColor" stroke-opacity=".15"', 'stroke="currentColor" stroke-opacity=".7"'
TITLE = 'font-size="15" font-weight="600"'

Points = Sequence[tuple[float, float]]


def lines_svg(
    series: Mapping[str, Points], title: str, x_label: str, y_label: str, *, x_ticks: Mapping[float, str] | None = None
) -> str:
    """Returns a line chart; a value that is not finite leaves a gap.

    Args:
        series: the points (x, y) of each curve by its name, in drawing order.
        title: above the chart.
        x_label: of the horizontal axis, with its unit.
        y_label: of the vertical axis, with its unit.
        x_ticks: labels by position, at least two, instead of round numbers; they must span all x.
    """
    finite = [point for points in series.values() for point in points if _finite(point)]
    x_labels = x_ticks or _labelled([x for x, _ in finite])
    y_labels = _labelled([y for _, y in finite])
    (left, right), (low, high) = ((min(ticks), max(ticks)) for ticks in (x_labels, y_labels))

    def to_pixels(x: float, y: float) -> tuple[float, float]:
        share = (x - left) / (right - left), (y - low) / (high - low)
        return LEFT + share[0] * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share[1] * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, TOP - 18, title, "start", TITLE)]
    for tick, label in x_labels.items():
        x, y = to_pixels(tick, low)
        parts.append(f'<path d="M{x:.1f} {y:.1f}v5" {SOFT}/>' + _text(x, y + 20, label, "middle"))
    for tick, label in y_labels.items():
        x, y = to_pixels(left, tick)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" {FAINT}/>' + _text(x - 8, y + 4, label, "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"))
    parts.append(_text(18, middle, y_label, "middle", f'transform="rotate(-90 18 {middle:g})"'))
    for number, (name, points) in enumerate(series.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        pen = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        parts += [_curve([to_pixels(*point) for point in segment], colour, pen) for segment in _segments(points)]
        y = TOP + 10 + 20 * number
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 14} {y}h24" {pen}/>' + _text(WIDTH - RIGHT + 44, y + 4, name, "start")
        )
    return _svg(title, WIDTH, HEIGHT, parts)


def intervals_svg(rows: Mapping[str, tuple[float, float, float]], title: str, x_label: str, *, digits: int = 1) -> str:
    """Returns a chart of values with their intervals, one row each; a value that is not finite is a dash.

    Args:
        rows: (value, low, high) by name.
        title: above the chart.
        x_label: of the axis, with its unit.
        digits: decimals of the printed values.
    """
    ticks = _labelled([value for row in rows.values() if _finite(row) for value in row])
    left, right = min(ticks), max(ticks)
    bottom = FIRST + STEP * len(rows) - 12

    def to_pixels(value: float) -> float:
        return INSET + (value - left) / (right - left) * (NARROW - 2 * INSET)

    parts = [_text(INSET, TOP - 18, title, "start", TITLE)]
    for tick, label in ticks.items():
        parts.append(f'<path d="M{to_pixels(tick):.1f} {TOP}V{bottom}" {FAINT}/>')
        parts.append(_text(to_pixels(tick), bottom + 18, label, "middle"))
    parts.append(_text(NARROW / 2, bottom + 38, x_label, "middle"))
    for number, (name, row) in enumerate(rows.items()):
        y = FIRST + STEP * number
        known = _finite(row)
        parts.append(f'<path d="M{INSET} {y}H{NARROW - INSET}" {FAINT}/>' + _text(INSET, y - 8, name, "start"))
        parts.append(_text(NARROW - INSET, y - 8, f"{row[0]:.{digits}f}" if known else "–", "end"))
        if known:
            value, low, high = map(to_pixels, row)
            parts.append(f'<path d="M{low:.1f} {y}H{high:.1f}" stroke="{COLOURS[0]}" stroke-width="3"/>')
            parts.append(f'<circle cx="{value:.1f}" cy="{y}" r="4.5" fill="{COLOURS[0]}"/>')
    return _svg(title, NARROW, bottom + 50, parts)


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12" color="#222" fill="currentColor">\n'
        f'<title>{escape(title)}</title>\n<rect width="{width}" height="{height}" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _curve(pixels: Points, colour: str, pen: str) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)
    dots = pixels if len(pixels) <= MAX_MARKERS else ()
    markers = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots)
    return f'<polyline points="{line}" {pen}/>{markers}'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _finite(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values))


def _segments(points: Points) -> list[Points]:
    """Split a curve at its gaps."""
    segments: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if _finite(point):
            segments[-1].append(point)
        else:
            segments.append([])
    return [segment for segment in segments if segment]


def _labelled(values: Sequence[float]) -> Mapping[float, str]:
    return {tick: f"{tick:g}" for tick in _ticks(values)}


def _ticks(values: Sequence[float], about: int = 6) -> list[float]:
    """Round numbers, at least two, that span all values."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    # tolerate rounding in the division
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
