"""The tab for many recordings and many voices at once."""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import soundfile

from demos.panel import SUFFIXES
from demos.studio import MARK, Brake, Folder, Held, Studio, short, start_and_stop, told, without_folders
from demos.uploads import FILES, MINUTES, check_sounds, given

MOST = 100  # conversions at a time
WIDTHS = ["17%", "13%", "22%", "9%", "11%", "28%"]
COLUMNS = ["source", "voice", "output", "state", "seconds", "error"]


def batch(studio: Studio) -> None:
    """Make the tab."""
    gr.Markdown(
        f"## Batch\nEvery recording in every voice, as a zip with a report. Each file on the right is a voice: "
        f"a recording, or a saved .voice. {FILES} files of each kind, {MOST} conversions at most."
    )
    with gr.Row():
        sources = gr.File(
            label="Recordings to convert", file_count="multiple", file_types=SUFFIXES, elem_id="batch-sources"
        )
        voices = gr.File(
            label="Voices", file_count="multiple", file_types=[*SUFFIXES, ".voice"], elem_id="batch-voices"
        )
    held = gr.State(Held())
    with gr.Row():
        go = gr.Button("Convert all", variant="primary", elem_id="batch")
        stop = gr.Button("Stop", elem_id="batch-stop")
    status = gr.Markdown(elem_id="batch-status")
    made = gr.File(label="All of them, zipped", interactive=False, elem_id="batch-zip")
    table = gr.Dataframe(headers=COLUMNS, interactive=False, label="Report", wrap=True, column_widths=WIDTHS)

    @told
    def run(
        _brake: Brake,
        sources: list[str] | None,
        voices: list[str] | None,
        held: Held,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple[Any, Any, Any]]:
        recordings, targets = given(sources, "recordings to convert"), given(voices, "voices")
        count = len(recordings) * len(targets)
        if count > MOST:
            raise ValueError(f"These are {count} conversions; {MOST} are possible at a time.")
        heard = {}
        for number, path in enumerate(targets):
            progress(0.2 * number / len(targets), f"voice {path.stem}")
            heard[path] = studio.voice(held, [str(path)])
            yield gr.skip(), gr.skip(), f"voice {number + 1} of {len(targets)} …"
        rows: list[list[Any]] = []
        with Folder() as folder:
            good = [path for path in recordings if _good(path, rows)]
            jobs = [
                (path, heard[target], f"{a:02d}-{short(path.stem)}__{b:02d}-{short(target.stem)}.wav")
                for a, path in enumerate(good, 1)
                for b, target in enumerate(targets, 1)
            ]
            results = studio.converter.convert_batch(jobs, folder) if jobs else iter(())
            for number, result in enumerate(results, 1):
                progress(0.2 + 0.8 * number / len(jobs), f"{number} of {len(jobs)}")
                name, error = Path(result.source).name, without_folders(result.error)
                rows.append([name, result.voice, result.output, result.state, result.seconds, error])
                yield gr.skip(), rows, f"{number} of {len(jobs)} …"
            done = [row for row in rows if row[3] == "done"]
            yield _zipped(folder, rows), rows, f"{len(done)} of {count} conversions are done."

    start_and_stop(go, stop, run, [sources, voices, held], [made, table, status], "batch")


def _good(path: Path, rows: list[list[Any]]) -> bool:
    try:
        check_sounds([path], MINUTES)
    except ValueError as error:
        rows.append([path.name, "", "", "failed", None, without_folders(str(error))])
        return False
    return True


def _zipped(folder: Path, rows: list[list[Any]]) -> str:
    """Put the sounds, marked as made, and the report into a zip."""
    report, whole = folder / "conversions.csv", folder / "conversions.zip"
    with report.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    with zipfile.ZipFile(whole, "w") as file:
        file.write(report, "report.csv")
        for row in rows:
            if row[3] == "done":
                with soundfile.SoundFile(folder / row[2], "r+") as sound:
                    sound.comment = MARK
                file.write(folder / row[2], row[2])
    return str(whole)
