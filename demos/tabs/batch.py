"""The tab of batch conversion: many recordings to many voices."""

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos.panel import SUFFIXES
from demos.sessions import Session
from demos.studio import Folder, Studio, file_name, label_synthetic
from demos.uploads import MAX_FILES, MAX_MINUTES, sounds, uploaded
from demos.widgets import StopSignal, report_errors, start_and_stop, without_folders
from ssl_vc.tables import format_csv

MAX_CONVERSIONS = 100  # at a time
WIDTHS = ["17%", "13%", "22%", "9%", "11%", "28%"]
COLUMNS = ["source", "voice", "output", "state", "seconds", "error"]


def batch_tab(studio: Studio, session: gr.State) -> None:
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
    rows: list[list[Any]] = []
    with Folder() as folder:
        enrolled = {}  # by file; the frames of so many voices stay on disk
        for number, path in enumerate(targets, 1):
            progress(0.2 * number / len(targets), f"voice {path.stem}")
            voice = studio.required_voice(session, [str(path)])
            enrolled[voice.save(folder / f"{number:02d}.voice")] = voice.name, path.stem
            yield gr.skip(), gr.skip(), f"voice {number} of {len(targets)} …"
        usable = []
        for number, path in enumerate(recordings, 1):
            usable += [path] if _usable(path, rows) else []
            yield gr.skip(), rows, f"recording {number} of {len(recordings)} checked …"
        jobs = [
            (path, voice, f"{a:02d}-{file_name(path.stem)}__{voice.stem}-{file_name(stem)}.wav")
            for a, path in enumerate(usable, 1)
            for voice, (_, stem) in enrolled.items()
        ]
        names = {output: enrolled[voice][0] for _, voice, output in jobs}
        results = studio.converter.convert_batch(jobs, folder) if jobs else iter(())
        for number, result in enumerate(results, 1):
            progress(0.2 + 0.8 * number / len(jobs), f"{number} of {len(jobs)}")
            name, error = Path(result.source).name, without_folders(result.error)
            rows.append([name, names[result.output], result.output, result.state, result.seconds, error])
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
    table = format_csv(COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))
    report.write_text(table, encoding="utf-8", newline="")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(report, "report.csv")
        for row in rows:
            if row[3] == "done":
                label_synthetic(folder / row[2])
                file.write(folder / row[2], row[2])
    return str(archive)
