"""`ssl-vc make-parallel`: the same sentences in several voices, frame by frame."""

import json
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import say_what_is_logged


def make_parallel(
    model: Annotated[str, typer.Argument(help="A Kokoro folder (model.onnx, voices/), or its hub id.")],
    texts: Annotated[Path, typer.Argument(help="A text file, one English sentence a line.", readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clips.", show_default=False)],
    sentences: Annotated[int | None, typer.Option(min=1, help="How many; all if left out.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Leave out so many before, as held out for a test.")] = 0,
    voices: Annotated[int, typer.Option(min=1, help="Timbres of each sentence.")] = 3,
    speakers: Annotated[int, typer.Option(min=1, help="Voices and mixtures of two or three to draw from.")] = 200,
    only: Annotated[list[str] | None, typer.Option(help="A voice to draw from; more than once.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="A voice to hold out; more than once.")] = None,
    speeds: Annotated[tuple[float, float], typer.Option(help="Speaking rates: from, to.")] = (0.85, 1.15),
    g2p: Annotated[str | None, typer.Option(help="hibari, misaki or espeak; the first installed if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Clips made side by side, one thread each.")] = 1,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Synthesise TEXTS by MODEL (Kokoro-82M), every sentence in several voices with one prosody.

    OUTPUT/manifest.tsv lists the clips; OUTPUT/pairs.tsv pairs each with another clip of its sentence (the column
    `source`). Clips that are there already are not made again.
    """
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    if not texts.is_file():
        raise typer.BadParameter(f"there is no file {texts}")
    from ssl_vc.parallel.corpus import CorpusConfig, draw_lines, draw_speakers, make_corpus
    from ssl_vc.parallel.g2p import load_g2p
    from ssl_vc.parallel.kokoro import SAMPLE_RATE, Kokoro, find_kokoro

    say_what_is_logged("ssl_vc")
    try:
        listed = [line.strip() for line in texts.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{texts} is no text in UTF-8; give a file with one sentence a line.") from None
    config = CorpusConfig(voices, speakers, tuple(only or ()), tuple(without or ()), speeds, seed)
    reader = load_g2p(g2p)
    synthesizer = Kokoro(find_kokoro(model, offline=offline))
    cast = draw_speakers(synthesizer.voices, config)
    lines = draw_lines(listed, cast, config, skip, len(listed) if sentences is None else sentences)
    if not lines:
        raise ValueError(f"{texts} has {len(listed)} sentences, and {skip} are left out: none is left to speak.")
    made = make_corpus(lines, output, synthesizer, reader, config, workers)
    for _ in tqdm(made, total=len(lines), unit="clip", disable=None):
        pass
    import soundfile

    seconds = sum(soundfile.info(str(output / line.path)).frames for line in lines) / SAMPLE_RATE
    facts = {"output": str(output), "clips": len(lines), "hours": round(seconds / 3600, 3), "speakers": len(cast)}
    text = f"{output}: {len(lines)} clips, {seconds / 3600:.2f} h, {len(cast)} speakers, read by {reader.name}"
    typer.echo(json.dumps(facts) if as_json else text)
