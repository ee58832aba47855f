"""The tab of batch conversion: many recordings to many voices."""

import csv
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos.panel import SUFFIXES
from demos.studio import Folder, Session, Studio, file_name, label_synthetic
from demos.uploads import MAX_FILES, MAX_MINUTES, sounds, uploaded
from demos.widgets import StopSignal, report_errors, start_and_stop, without_folders

MAX_CONVERSIONS = 100  # at a time
WIDTHS = ["17%", "13%", "22%", "9%", "11%", "28%"]
COLUMNS = ["source", "voice", "output", "state", "seconds", "error"]


def batch_tab(studio: Studio) -> None:
    """Build the tab."""
    gr.Markdown(
        f"## Batch\nEvery recording in every voice, as a zip with a report. Each file on the right is one voice: "
        f"a recording or a saved .voice. At most {MAX_FILES} files on each side and {MAX_CONVERSIONS} conversions."
    )
    with gr.Row():
        sources = gr.File(
            label="Recordings to convert", file_count="multiple", file_types=SUFFIXES, elem_id="batch-sources"
        )
        voices = gr.File(
            label="Voices", file_count="multiple", file_types=[*SUFFIXES, ".voice"], elem_id="batch-voices"
        )
    session = gr.State(Session())
    with gr.Row():
        start = gr.Button("Convert all", variant="primary", elem_id="batch")
        stop = gr.Button("Stop", elem_id="batch-stop")
    status = gr.Markdown(elem_id="batch-status")
    archive = gr.File(label="All results as a zip", interactive=False, elem_id="batch-zip")
    table = gr.Dataframe(headers=COLUMNS, interactive=False, label="Report", wrap=True, column_widths=WIDTHS)
    start_and_stop(
        start, stop, partial(_convert_all, studio), [sources, voices, session], [archive, table, status], "batch"
    )


@report_errors
def _convert_all(
    studio: Studio,
    _stop: StopSignal,
    sources: list[str] | None,
    voices: list[str] | None,
    session: Session,
    progress: gr.Progress = gr.Progress(),  # noqa: B008
) -> Iterator[tuple[Any, Any, Any]]:
    recordings, targets = uploaded(sources, "recordings to convert"), uploaded(voices, "voices")
    count = len(recordings) * len(targets)
    if count > MAX_CONVERSIONS:
        raise ValueError(f"These are {count} conversions; the limit is {MAX_CONVERSIONS}.")
    enrolled = {}
    for number, path in enumerate(targets):
        progress(0.2 * number / len(targets), f"voice {path.stem}")
        enrolled[path] = studio.voice(session, [str(path)])
        yield gr.skip(), gr.skip(), f"voice {number + 1} of {len(targets)} …"
    rows: list[list[Any]] = []
    with Folder() as folder:
        usable = [path for path in recordings if _usable(path, rows)]
        jobs = [
            (path, enrolled[target], f"{a:02d}-{file_name(path.stem)}__{b:02d}-{file_name(target.stem)}.wav")
            for a, path in enumerate(usable, 1)
            for b, target in enumerate(targets, 1)
        ]
        results = studio.converter.convert_batch(jobs, folder) if jobs else iter(())
        for number, result in enumerate(results, 1):
            progress(0.2 + 0.8 * number / len(jobs), f"{number} of {len(jobs)}")
            name, error = Path(result.source).name, without_folders(result.error)
            rows.append([name, result.voice, result.output, result.state, result.seconds, error])
            yield gr.skip(), rows, f"{number} of {len(jobs)} …"
        done = [row for row in rows if row[3] == "done"]
        yield _zip(folder, rows), rows, f"{len(done)} of {count} conversions done."


def _usable(path: Path, rows: list[list[Any]]) -> bool:
    """Returns whether a recording can be converted; if not, the report gets a row that says why."""
    try:
        sounds([path], MAX_MINUTES)
    except ValueError as error:
        rows.append([path.name, "", "", "failed", None, without_folders(str(error))])
        return False
    return True


def _zip(folder: Path, rows: list[list[Any]]) -> str:
    """Zip the report and the sounds, labelled as synthetic; returns the path of the archive."""
    report, archive = folder / "conversions.csv", folder / "conversions.zip"
    with report.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    with zipfile.ZipFile(archive, "w") as file:
        file.write(report, "report.csv")
        for row in rows:
            if row[3] == "done":
                label_synthetic(folder / row[2])
                file.write(folder / row[2], row[2])
    return str(archive)
