"""Curves as an SVG picture, without a plotting library."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 44, 52  # margins; the names of the curves stand in the right one
FEW = 40  # points of a curve that are marked one by one
# told apart by people who see few colours too (Okabe and Ito, 2008), and dashed where the colours begin again
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("none", "7 4", "2 3")

Points = Sequence[tuple[float, float]]


def lines_svg(series: Mapping[str, Points], title: str, x_label: str, y_label: str) -> str:
    """Draw curves over common axes; a value that is not finite leaves a gap.

    Args:
        series: the points (x, y) of each curve by its name, in the order in which they are joined.
        title: what stands above.
        x_label: what the horizontal axis is, with its unit.
        y_label: the same of the vertical one.
    """
    finite = [point for points in series.values() for point in points if _finite(point)]
    ticks = [_ticks([point[axis] for point in finite]) for axis in (0, 1)]
    (left, right), (low, high) = ((marks[0], marks[-1]) for marks in ticks)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [_text(LEFT, TOP - 18, title, "start", 'font-size="15" font-weight="600"')]
    for tick in ticks[0]:
        x, y = place(tick, low)
        parts.append(f'<path d="M{x:.1f} {y:.1f}v5" stroke="#555"/>' + _text(x, y + 20, f"{tick:g}", "middle"))
    for tick in ticks[1]:
        x, y = place(left, tick)
        parts.append(f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(x - 8, y + 4, f"{tick:g}", "end"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label, "middle"))
    parts.append(_text(18, middle, y_label, "middle", f'transform="rotate(-90 18 {middle:g})"'))
    for number, (name, points) in enumerate(series.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        pen = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
        parts += [_curve([place(*point) for point in piece], colour, pen) for piece in _pieces(points)]
        y = TOP + 10 + 20 * number
        parts.append(
            f'<path d="M{WIDTH - RIGHT + 14} {y}h24" {pen}/>' + _text(WIDTH - RIGHT + 44, y + 4, name, "start")
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#222">\n<title>{escape(title)}</title>\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _curve(places: Points, colour: str, pen: str) -> str:
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = places if len(places) <= FEW else ()
    marks = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in dots)
    return f'<polyline points="{line}" {pen}/>{marks}'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _finite(point: tuple[float, float]) -> bool:
    return all(math.isfinite(value) for value in point)


def _pieces(points: Points) -> list[Points]:
    """Cut a curve where it has no value."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if _finite(point):
            pieces[-1].append(point)
        else:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _ticks(values: Sequence[float], about: int = 6) -> list[float]:
    """Give round numbers, at least two, from below the smallest value to above the largest."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    # a division's rounding must not cost a tick
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
