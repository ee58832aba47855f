"""A self-contained HTML page to listen and compare: audio and images are embedded, and nothing is downloaded."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import soundfile
from torch import Tensor

from ssl_vc.html.spectrogram import spectrogram, waveform

MAX_SECONDS = 60  # of each clip: no browser would open a page of whole hours


@dataclass(frozen=True)
class Column:
    """A metric in a table.

    Attributes:
        name: key of its values in a row.
        heading: with its unit.
        digits: decimals.
        meaning: one sentence of explanation.
    """

    name: str
    heading: str
    digits: int
    meaning: str = ""

    def text(self, value: float | None) -> str:
        """Returns a value as text; a dash for None."""
        return "–" if value is None else f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class Row:
    """A clip with its metrics: wav (samples,), and values by the names of their columns."""

    name: str
    wav: Tensor
    sample_rate: int
    values: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class MissingItem:
    """Something that is not on the page, the reason, and the command that would add it ("" if there is none)."""

    name: str
    reason: str
    command: str = ""


def render(
    title: str, intro: str, columns: Sequence[Column], rows: Sequence[Row], missing: Sequence[MissingItem] = ()
) -> str:
    """Render the page; every argument is plain text, escaped here.

    Args:
        title: heading of the page.
        intro: a line below it.
        columns: of the table.
        rows: the clips; all pictures are scaled to the level of the first.
        missing: what could not be made.
    """
    return document(title, intro, _sounds(rows) + _table(columns, rows) + _missing(missing))


def document(title: str, intro: str, body: str, style: str = "") -> str:
    """Returns a page around an HTML body; the rules of `style` come after the common ones."""
    return PAGE.format(title=escape(title), intro=escape(intro), body=body, style=STYLE + style, script=SCRIPT)


def section(name: str, heading: str, body: str) -> str:
    """Returns an HTML body below a heading; `name` is the heading's id, which also labels a table in the body."""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{escape(heading)}</h2>\n{body}</section>\n'


def table(name: str, headings: Sequence[str], groups: Mapping[str, str]) -> str:
    """Returns a table that scrolls within the page, also by keyboard.

    Args:
        name: id of the heading that labels the table.
        headings: of the columns.
        groups: rows (see `table_row`) by the heading of their group; "" for no heading.
    """
    heads = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    bodies = []
    for group, rows in groups.items():
        above = f'<th scope="rowgroup" colspan="{len(headings)}"><span>{escape(group)}</span></th>' if group else ""
        bodies.append(f"<tbody>\n{above and f'<tr>{above}</tr>'}{rows}</tbody>\n")
    return (
        f'<div class="wide" role="region" aria-labelledby="{name}" tabindex="0">\n<table>\n'
        f"<thead><tr>{heads}</tr></thead>\n{''.join(bodies)}</table>\n</div>\n"
    )


def table_row(name: str, cells: Iterable[str], note: str = "") -> str:
    """Returns a row of a table; the cells are HTML, and a note stands below the name."""
    small = f"<small>{escape(note)}</small>" if note else ""
    row = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(name)}{small}</th>{row}</tr>\n'


def bullet_list(items: Iterable[str]) -> str:
    """Returns a list of HTML items."""
    return "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"


def glossary(summary: str, meanings: Iterable[tuple[str, str]]) -> str:
    """Returns a folded list of terms with their meanings; terms without one are left out."""
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>\n" for term, meaning in meanings if meaning)
    return f"<details><summary>{escape(summary)}</summary>\n<dl>\n{terms}</dl>\n</details>\n"


def audio_player(name: str, wav: Tensor, sample_rate: int) -> str:
    """Returns a player with the embedded audio, wav (samples,)."""
    source = _data_url(_flac(wav, sample_rate), "audio/flac")
    return f'<audio controls preload="metadata" aria-label="{escape(name)}" src="{source}"></audio>\n'


def figure(row: Row, level: float | None = None) -> str:
    """Returns a clip's outline, spectrogram and player; `level` as in `ssl_vc.html.spectrogram.spectrogram`."""
    name, wav = escape(row.name), row.wav[: MAX_SECONDS * row.sample_rate]
    notes = [row.note, f"the first {MAX_SECONDS} s" if len(wav) < len(row.wav) else ""]
    note = escape("; ".join(note for note in notes if note))
    outline, spectrum = (
        _data_url(draw(wav, row.sample_rate, level=level), "image/png") for draw in (waveform, spectrogram)
    )
    return (
        f"<figure>\n<figcaption><h3>{name}</h3><p>{note}</p></figcaption>\n"
        f'<img src="{outline}" alt="" class="outline">\n'
        f'<img src="{spectrum}" alt="Spectrogram of {name}" class="spectrum">\n'
        f"{audio_player(row.name, wav, row.sample_rate)}</figure>\n"
    )


def _sounds(rows: Sequence[Row]) -> str:
    level = float(rows[0].wav.abs().max()) if rows else None
    figures = "".join(figure(row, level) for row in rows)
    return section("sounds", "Sounds", f'<div class="sounds">\n{figures}</div>\n')


def _table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    if not columns:
        return ""
    values = ((row.name, (column.text(row.values.get(column.name)) for column in columns)) for row in rows)
    headings = ["Sound", *(column.heading for column in columns)]
    whole = table("measures", headings, {"": "".join(table_row(*each) for each in values)})
    meanings = glossary("About the metrics", ((column.heading, column.meaning) for column in columns))
    return section("measures", "Metrics", whole + meanings)


def _missing(missing: Sequence[MissingItem]) -> str:
    if not missing:
        return ""
    items = []
    for each in missing:
        command = f"<pre><code>{escape(each.command)}</code></pre>" if each.command else ""
        items.append(f"<strong>{escape(each.name)}</strong>: {escape(each.reason)}{command}")
    return section("missing", "Missing", bullet_list(items))


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _flac(wav: Tensor, sample_rate: int) -> bytes:
    """Encode with 16 bits; a peak above 1 is scaled down, since it would clip."""
    file = io.BytesIO()
    samples = (wav / max(1.0, float(wav.abs().max()) / 0.999)).numpy(force=True) if len(wav) else wav.numpy(force=True)
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


STYLE = """
:root { color-scheme: light dark; --text: #1c1b22; --soft: #5a5866; --back: #fbfaf8; --card: #fff; --line: #dcd9e2; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ecebf0; --soft: #aba8b8; --back: #141318; --card: #1e1c24; --line: #3a3745; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 90rem; padding: 1.25rem clamp(0.75rem, 3vw, 2.5rem) 3rem; background: var(--back);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 0.25rem; }
h2 { font-size: 1.15rem; margin: 1.75rem 0 0.5rem; }
body > p, figcaption p, dd { color: var(--soft); margin: 0; }
.sounds { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 23rem), 1fr)); }
figure { margin: 0; padding: 0.75rem; background: var(--card); border: 1px solid var(--line); border-radius: 0.5rem; }
figcaption { display: flex; flex-wrap: wrap; gap: 0 0.75rem; align-items: baseline; margin-bottom: 0.5rem; }
figcaption h3 { font-size: 1rem; margin: 0; }
figcaption p { font-size: 0.85rem; }
img { display: block; width: 100%; }
.outline { height: 2.5rem; border-radius: 0.25rem 0.25rem 0 0; }
.spectrum { height: 9rem; border-radius: 0 0 0.25rem 0.25rem; }
audio { display: block; width: 100%; height: 2.5rem; margin-top: 0.5rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 0.5rem; background: var(--card); }
:focus-visible { outline: 2px solid #d74858; outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.9rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.75rem; text-align: right; border-top: 1px solid var(--line); }
thead th { border-top: 0; vertical-align: bottom; color: var(--soft); font-weight: 600; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); white-space: nowrap; }
details { margin-top: 0.75rem; }
summary { cursor: pointer; }
dt { font-weight: 600; margin-top: 0.5rem; }
dd { margin: 0; }
ul { padding-left: 1.1rem; margin: 0; }
li { margin-bottom: 0.6rem; }
pre { margin: 0.25rem 0 0; padding: 0.4rem 0.6rem; white-space: pre-wrap; overflow-wrap: anywhere;
  background: var(--card); border: 1px solid var(--line); border-radius: 0.35rem; font-size: 0.85rem; }
"""

# plays one clip at a time
SCRIPT = """
document.addEventListener("play", event => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; media-src data:;
  style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{intro}</p>
<main>
{body}</main>
<script>{script}</script>
</body>
</html>
"""
