"""`ssl-vc make-parallel`: synthesise parallel speech for training and evaluation."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ssl_vc.cli.messages import log_to_stderr, track
from ssl_vc.cli.settings import working_in
from ssl_vc.files import read_text


def make_parallel(
    model: Annotated[str, typer.Argument(help="A Kokoro folder (model.onnx, voices/), or its hub id.")],
    texts: Annotated[Path, typer.Argument(help="A text file with one English sentence per line.", readable=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the clips.", show_default=False)],
    sentences: Annotated[int | None, typer.Option(min=1, help="Number of sentences; all by default.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Skip the first N, to hold them out for a test.")] = 0,
    voices: Annotated[int, typer.Option(min=1, help="Timbres per sentence.")] = 3,
    speakers: Annotated[int, typer.Option(min=1, help="Number of speakers: voices, then mixtures of 2 or 3.")] = 200,
    only: Annotated[list[str] | None, typer.Option(help="Voices to draw from; all by default.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Voices to exclude.")] = None,
    speeds: Annotated[tuple[float, float], typer.Option(help="Range of the speaking rate factor.")] = (0.85, 1.15),
    g2p: Annotated[str | None, typer.Option(help="hibari, misaki or espeak; the first installed by default.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Clips synthesised in parallel, one thread each.")] = 1,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line.")] = False,
) -> None:
    """Synthesise TEXTS with MODEL (Kokoro-82M): each sentence in several voices with one prosody.

    OUTPUT/manifest.tsv lists the clips; OUTPUT/pairs.tsv pairs each with another clip of its sentence (the column
    `source`). Existing clips are kept.
    """
    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o expects a folder")
    if not texts.is_file():
        raise typer.BadParameter(f"there is no file {texts}")
    from ssl_vc.parallel.corpus import CorpusConfig, draw_clips, draw_speakers, synthesize_corpus
    from ssl_vc.parallel.g2p import load_g2p
    from ssl_vc.parallel.kokoro import SAMPLE_RATE, Kokoro, find_kokoro

    log_to_stderr("ssl_vc")
    lines = read_text(texts, encoding="utf-8-sig").splitlines()
    listed = [line.strip() for line in lines if line.strip()]
    config = CorpusConfig(voices, speakers, tuple(only or ()), tuple(without or ()), speeds, seed)
    phonemizer = load_g2p(g2p)
    with working_in(output):
        synthesizer = Kokoro(find_kokoro(model, offline=offline))
        cast = draw_speakers(synthesizer.voices, config)
        clips = draw_clips(listed, cast, config, skip, len(listed) if sentences is None else sentences)
        if not clips:
            raise ValueError(f"{texts} has {len(listed)} sentences, of which {skip} are skipped: none is left.")
        done = synthesize_corpus(clips, output, synthesizer, phonemizer, config, workers)
        for _ in track(done, "clip", len(clips)):
            pass
    import soundfile

    seconds = sum(soundfile.info(str(output / clip.path)).frames for clip in clips) / SAMPLE_RATE
    facts = {"output": str(output), "clips": len(clips), "hours": round(seconds / 3600, 3), "speakers": len(cast)}
    text = f"{output}: {len(clips)} clips, {seconds / 3600:.2f} h, {len(cast)} speakers, g2p by {phonemizer.name}"
    typer.echo(json.dumps(facts) if as_json else text)
