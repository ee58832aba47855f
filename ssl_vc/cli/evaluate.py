"""`ssl-vc evaluate`: how good a voice is."""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from ssl_vc.cli.arguments import MODEL, VOCODER, check_matcher, number_or, refuse_inputs
from ssl_vc.cli.judged import baselines, conversions, elsewhere, named

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.pairs import Task
    from ssl_vc.evaluate.protocol import Protocol
    from ssl_vc.evaluate.systems import System

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
            "(recordings with ; between), and as you like text, name, speaker, target_speaker, trials, reading, "
            "converted.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the page, the tables and the sounds.", show_default=False)
    ] = Path("evaluation"),
    protocol: Annotated[
        ProtocolName | None, typer.Option(help="Choose pairs from --clips: knn-vc as its paper does.")
    ] = None,
    clips: Annotated[str | None, typer.Option(help="A table of clips, for a protocol.")] = None,
    split: Annotated[str | None, typer.Option(help="Which rows of that table.")] = None,
    utterances: Annotated[
        int | None, typer.Option(min=1, help="With --protocol: sources of each speaker.", show_default="20")
    ] = None,
    targets: Annotated[
        int | None, typer.Option(min=0, help="With --protocol: targets of each source; 0 for all.", show_default="1")
    ] = None,
    reference_seconds: Annotated[
        list[str] | None,
        typer.Option(metavar="SECONDS...", help="Of each target's recordings; several draw a curve. `all` for all."),
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many pairs, by lot.")] = None,
    converted: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FOLDER...", help="Judge sounds made elsewhere, called as the pairs are."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(
            help="Judge too: mel-knn (nothing learned), units, units-frames, speak:BLEND (the texts), "
            "or copies: mel/griffin-lim, ..."
        ),
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(help="Of vocoders for copy-synthesis; or a folder of train-units or train-tts.")
    ] = None,
    model: Annotated[str | None, typer.Option(help=MODEL, show_default="tiny")] = None,
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer to match; several are compared.")] = None,
    matcher: Annotated[list[str] | None, typer.Option(help="See `ssl-vc convert`; several are compared.")] = None,
    k: Annotated[list[int] | None, typer.Option(min=1, help="How many neighbours; several are compared.")] = None,
    blend: Annotated[list[float] | None, typer.Option(help="1: matched frames, 0: the source's own; several.")] = None,
    pitch: Annotated[list[str] | None, typer.Option(help="keep, match, or semitones; several are compared.")] = None,
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
    language: Annotated[str | None, typer.Option(help="What is spoken, for whisper.", show_default="en")] = None,
    verifier: Annotated[
        str | None,
        typer.Option(help="FILE.onnx of WeSpeaker or 3D-Speaker, resemblyzer, a transformers x-vector model, or none."),
    ] = None,
    dnsmos: Annotated[Path | None, typer.Option(help="sig_bak_ovr.onnx of DNSMOS.", readable=False)] = None,
    mos: Annotated[Mos | None, typer.Option(help="distill: DistillMOS.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per system.")] = False,
) -> None:
    """Judge conversions: word errors, speaker similarity, melody, spectrum, naturalness, cost, with intervals."""
    from ssl_vc.evaluate.making import SOUNDS
    from ssl_vc.evaluate.memory import Memory
    from ssl_vc.evaluate.outputs import FILES, as_text, summary_facts, write_results
    from ssl_vc.evaluate.pairs import Task
    from ssl_vc.evaluate.panel import load_panel
    from ssl_vc.evaluate.protocol import write_protocol
    from ssl_vc.evaluate.run import evaluate as judge
    from ssl_vc.evaluate.systems import Natural

    lengths = [None if each == "all" else float(number_or(each, "all")) for each in reference_seconds or []]
    made: dict[str, Any] = {"utterances": utterances, "targets_per_source": targets, "reference_seconds": lengths}
    made = {name: each for name, each in made.items() if each not in (None, [])}
    who = {"recogniser": recogniser, "verifier": verifier, "language": language}
    chosen = _changed(_chosen(pairs, protocol, clips, split, made), lengths, first, who)
    _refuse_existing(output, [SOUNDS, PROTOCOL, *FILES], pairs, converted or [], force)
    task = chosen if isinstance(chosen, Task) else chosen.task()
    systems: list[System] = [Natural(), *elsewhere(converted, task)]
    own = None if model is None and (beside or len(systems) > 1) else model or "tiny"
    grid: dict[str, Any] = {"layer": layer, "matcher": matcher, "k": k, "blend": blend}
    grid["pitch"] = [number_or(each, "keep", "match") for each in pitch] if pitch else None
    grid = {name: values for name, values in grid.items() if values}
    if own is None and (vocoder or grid.keys() - {"layer"}):
        raise typer.BadParameter("what belongs to a conversion needs a --model, or nothing is converted")
    for each in matcher or ():
        check_matcher(each)
    memory = Memory()
    place: dict[str, Any] = {"device": device, "offline": offline}
    systems += baselines(beside or [], weights, own or "tiny", layer[0] if layer else None, place, memory)
    if own is not None:
        systems += conversions(own, {"vocoder": vocoder, "device": device, "offline": offline}, grid, memory)
    panel = load_panel(task, judges, dnsmos=dnsmos, distill_mos=mos is not None, device=device, offline=offline)
    output.mkdir(parents=True, exist_ok=True)
    results = judge(task, systems, panel.judges, output, _watch, panel.notes)
    write_results(results, task, output)
    if not isinstance(chosen, Task):
        called = {name: getattr(panel.task, name) for name in ("recogniser", "verifier", "versions")}
        write_protocol(replace(chosen, **called), output / PROTOCOL)
    if as_json:
        for row in results.summaries:
            typer.echo(json.dumps(summary_facts(row) | {"judges": list(results.judges)}))
    else:
        typer.echo(f"{as_text(results)}\n\n{output / 'index.html'}")
    if all(outcome.failed for outcome in results.outcomes if outcome.system != Natural.name):
        raise ValueError(f"nothing could be judged: {results.outcomes[-1].error}")


def _refuse_existing(
    output: Path, names: Sequence[str], pairs: Path | None, converted: Sequence[str], force: bool
) -> None:
    """Refuse to overwrite what is read, or without --force what exists."""
    from ssl_vc.evaluate.making import SOUNDS

    if output.exists() and not output.is_dir():
        raise typer.BadParameter(f"{output} is a file; -o wants a folder")
    refuse_inputs([output / name for name in names], [pairs] if pairs else [])
    sounds = (output / SOUNDS).resolve()
    for each in converted:
        if named(each)[1].resolve().is_relative_to(sounds):
            raise ValueError(f"{each} lies where the sounds are written; write elsewhere than to {output}.")
    existing = [output / name for name in names if (output / name).exists()]
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")


def _chosen(
    pairs: Path | None, protocol: ProtocolName | None, clips: str | None, split: str | None, made: dict[str, Any]
) -> "Protocol | Task":
    """Read the pairs, or choose them."""
    from ssl_vc.evaluate.pairs import read_pairs
    from ssl_vc.evaluate.protocol import knn_vc, read_protocol

    if (pairs is None) == (protocol is None):
        raise typer.BadParameter("give PAIRS (a table or a protocol's file), or choose them by --protocol and --clips")
    if made.keys() - {"reference_seconds"} and protocol is None:
        raise typer.BadParameter("--utterances and --targets choose pairs, which needs --protocol")
    if pairs is None:
        if clips is None:
            raise typer.BadParameter("--protocol chooses from --clips, a table of clips")
        return knn_vc(clips, split or "", **made)
    if pairs.suffix.lower() in (".yaml", ".yml"):
        found = read_protocol(pairs)
        return replace(found, clips=clips or found.clips, split=split or found.split)
    if clips or split:
        raise typer.BadParameter("--clips and --split belong to protocols; a table of pairs names its files")
    return read_pairs(pairs)


def _changed(
    chosen: "Protocol | Task",
    lengths: Sequence[float | None],
    first: int | None,
    who: dict[str, str | None],
) -> "Protocol | Task":
    """Change what the command line says."""
    from ssl_vc.evaluate.pairs import Task

    changes: dict[str, Any] = dict(who)
    if lengths:
        every = None if isinstance(chosen, Task) else "all"
        changes["reference_seconds"] = tuple(every if length is None else length for length in lengths)
    if first:
        order = list(range(len(chosen.pairs)))
        random.Random(0).shuffle(order)  # so that fewer pairs are among more
        changes["pairs"] = tuple(chosen.pairs[index] for index in sorted(order[:first]))
    return replace(chosen, **{name: value for name, value in changes.items() if value is not None})


def _watch(things: Sequence[Any], label: str) -> Iterable[Any]:
    return tqdm(things, label, disable=None, leave=False)
