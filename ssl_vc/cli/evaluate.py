"""`ssl-vc evaluate`: objective metrics of conversions."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssl_vc.cli.arguments import MODEL, VOCODER, parse_number, parse_pitch, refuse_inputs
from ssl_vc.cli.messages import track
from ssl_vc.cli.systems import build_systems, parse_folder
from ssl_vc.process import prepare_inference

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.judges import LoadedJudges
    from ssl_vc.evaluate.pairs import TestSet
    from ssl_vc.evaluate.protocol import Protocol
    from ssl_vc.evaluate.results import Results

PROTOCOL = "protocol.yaml"


class Mos(StrEnum):
    """Predictors of mean opinion scores that need no file."""

    distill = "distill"


class ProtocolName(StrEnum):
    """How pairs are chosen."""

    knn_vc = "knn-vc"


def evaluate(
    pairs: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PAIRS]",
            help="A protocol (configs/evaluate/dev.yaml), or a table (.csv, .tsv) with the columns source and target "
            "(recordings separated by ;), and optionally text, name, speaker, target_speaker, trials, reading, "
            "converted.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the page, the tables and the audio.", show_default=False)
    ] = Path("evaluation"),
    protocol: Annotated[
        ProtocolName | None, typer.Option(help="Choose pairs from --clips: knn-vc follows the kNN-VC paper.")
    ] = None,
    clips: Annotated[str | None, typer.Option(help="Manifest of clips, for a protocol.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the manifest.")] = None,
    utterances: Annotated[
        int | None, typer.Option(min=1, help="With --protocol: sources per speaker.", show_default="20")
    ] = None,
    targets: Annotated[
        int | None, typer.Option(min=0, help="With --protocol: targets per source; 0 for all.", show_default="1")
    ] = None,
    reference_seconds: Annotated[
        list[str] | None,
        typer.Option(metavar="SECONDS...", help="Amount of reference per target, or `all`; several draw a curve."),
    ] = None,
    subset: Annotated[int | None, typer.Option(min=1, help="Evaluate a random subset of N pairs.", metavar="N")] = None,
    first: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    converted: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FOLDER...", help="Evaluate external audio, with files named after the pairs."),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Also evaluate: mel-knn (nothing learned), units, units-frames, speak:BLEND (from text), "
            "or copy-synthesis: mel/griffin-lim, ..."
        ),
    ] = None,
    beside: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="Vocoders for copy-synthesis; or a folder of train-units or train-tts.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=MODEL, show_default="tiny")] = None,
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Matching layer; several are compared.")] = None,
    matcher: Annotated[list[str] | None, typer.Option(help="See `ssl-vc convert`; several are compared.")] = None,
    k: Annotated[list[int] | None, typer.Option(min=1, help="Number of neighbours; several are compared.")] = None,
    blend: Annotated[
        list[float] | None, typer.Option(help="1: matched frames, 0: the source's; several are compared.")
    ] = None,
    pitch: Annotated[list[str] | None, typer.Option(help="match, or semitones; several are compared.")] = None,
    judges: Annotated[
        Path | None,
        typer.Option(
            help="Folder of judges: whisper/, campplus.onnx, sig_bak_ovr.onnx.", envvar="SSL_VC_JUDGES", readable=False
        ),
    ] = None,
    recogniser: Annotated[
        str | None,
        typer.Option(
            help="whisper:FOLDER_OR_HUB_ID, pocketsphinx (closed vocabulary), pocketsphinx:general, a transformers id "
            "or folder, or none."
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Language of the sources, for whisper.", show_default="en")
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(help="FILE.onnx of WeSpeaker or 3D-Speaker, resemblyzer, a transformers x-vector model, or none."),
    ] = None,
    dnsmos: Annotated[Path | None, typer.Option(help="sig_bak_ovr.onnx of DNSMOS.", readable=False)] = None,
    mos: Annotated[Mos | None, typer.Option(help="distill: DistillMOS.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per system.")] = False,
) -> None:
    """Evaluate conversions: error rates, speaker similarity, F0, spectrum, naturalness and cost, with intervals."""
    from ssl_vc.evaluate.judges import load_judges
    from ssl_vc.evaluate.outputs import write_results
    from ssl_vc.evaluate.pairs import TestSet
    from ssl_vc.evaluate.run import evaluate as run_evaluation

    prepare_inference()
    lengths = [None if each == "all" else float(parse_number(each, "all")) for each in reference_seconds or []]
    selection = {"utterances": utterances, "targets_per_source": targets, "reference_seconds": lengths or None}
    named = {"recogniser": recogniser, "verifier": verifier, "language": language}
    chosen = _override(_select(pairs, protocol, clips, split, selection), lengths, subset or first, named)
    _check_output(output, pairs, converted or [], force)
    test_set = chosen if isinstance(chosen, TestSet) else chosen.test_set()
    pitches = [parse_pitch(each) for each in pitch or ()]
    grid = {"layer": layer, "matcher": matcher, "k": k, "blend": blend, "pitch": pitches}
    systems = build_systems(
        test_set,
        converted or [],
        [*(baseline or []), *(beside or [])],
        weights or [],
        model=model,
        vocoder=vocoder,
        grid={name: values for name, values in grid.items() if values},
        device=device,
        offline=offline,
    )
    loaded = load_judges(test_set, judges, dnsmos=dnsmos, distill_mos=mos is not None, device=device, offline=offline)
    output.mkdir(parents=True, exist_ok=True)
    results = run_evaluation(test_set, systems, loaded.judges, output, _progress, loaded.notes)
    write_results(results, test_set, output)
    _write_protocol(chosen, loaded, output)
    _print(results, output, as_json)


def _check_output(output: Path, pairs: Path | None, converted: Sequence[str], force: bool) -> None:
    """Refuse to overwrite inputs, or without --force existing files."""
    from ssl_vc.evaluate.generate import SOUNDS
    from ssl_vc.evaluate.outputs import FILES

    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o expects a folder")
    files = [output / name for name in (SOUNDS, PROTOCOL, *FILES)]
    refuse_inputs(files, [pairs] if pairs else [])
    sounds = (output / SOUNDS).resolve()
    for each in converted:
        if parse_folder(each)[1].resolve().is_relative_to(sounds):
            raise ValueError(f"{each} lies in the output folder for audio; use another one than {output}.")
    existing = [file for file in files if file.exists()]
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")


def _select(
    pairs: Path | None,
    protocol: ProtocolName | None,
    clips: str | None,
    split: str | None,
    selection: Mapping[str, Any],
) -> "Protocol | TestSet":
    """Read the pairs, or choose them by a protocol."""
    from ssl_vc.evaluate.pairs import read_pairs
    from ssl_vc.evaluate.protocol import knn_vc, read_protocol

    options = {name: value for name, value in selection.items() if value is not None}
    if (pairs is None) == (protocol is None):
        raise typer.BadParameter(
            "name PAIRS (a table or a protocol's file), or choose them with --protocol and --clips"
        )
    if options.keys() - {"reference_seconds"} and protocol is None:
        raise typer.BadParameter("--utterances and --targets choose pairs, which needs --protocol")
    if pairs is None:
        if clips is None:
            raise typer.BadParameter("--protocol needs --clips, a manifest to choose from")
        return knn_vc(clips, split or "", **options)
    if pairs.suffix.lower() in (".yaml", ".yml"):
        found = read_protocol(pairs)
        return replace(found, clips=clips or found.clips, split=split or found.split)
    if clips or split:
        raise typer.BadParameter("--clips and --split belong to protocols; a table of pairs names its files")
    return read_pairs(pairs)


def _override(
    chosen: "Protocol | TestSet", lengths: Sequence[float | None], subset: int | None, named: Mapping[str, str | None]
) -> "Protocol | TestSet":
    """Apply the options of the command line."""
    from ssl_vc.evaluate.pairs import TestSet

    changes: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    if lengths:
        everything = None if isinstance(chosen, TestSet) else "all"
        changes["reference_seconds"] = tuple(everything if length is None else length for length in lengths)
    if subset:
        order = list(range(len(chosen.pairs)))
        random.Random(0).shuffle(order)  # a smaller subset is part of a larger one
        changes["pairs"] = tuple(chosen.pairs[index] for index in sorted(order[:subset]))
    return replace(chosen, **changes)


def _write_protocol(chosen: "Protocol | TestSet", loaded: "LoadedJudges", output: Path) -> None:
    """Write the protocol, with the judges that were loaded; a table of pairs has none."""
    from ssl_vc.evaluate.protocol import Protocol, write_protocol

    if isinstance(chosen, Protocol):
        used = {name: getattr(loaded.test_set, name) for name in ("recogniser", "verifier", "versions")}
        write_protocol(replace(chosen, **used), output / PROTOCOL)


def _print(results: "Results", output: Path, as_json: bool) -> None:
    from ssl_vc.evaluate.outputs import as_text, summary_record
    from ssl_vc.evaluate.systems import NaturalSource

    if as_json:
        for row in results.summaries:
            typer.echo(json.dumps(summary_record(row) | {"judges": list(results.judges)}))
    else:
        typer.echo(f"{as_text(results)}\n\n{output / 'index.html'}")
    if all(outcome.failed for outcome in results.outcomes if outcome.system != NaturalSource.name):
        raise ValueError(f"nothing could be scored: {results.outcomes[-1].error}")


def _progress(items: Sequence[Any], label: str) -> Iterable[Any]:
    return track(items, "pair", label=label)
