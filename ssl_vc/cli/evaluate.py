"""`ssl-vc evaluate`: how good a voice is."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

import ssl_vc
from ssl_vc.cli.convert import MODEL, VOCODER, check_matcher, number_or
from ssl_vc.cli.messages import say

if TYPE_CHECKING:  # these load torch, which `ssl-vc --help` need not wait for
    from ssl_vc.evaluate.judging import Judges
    from ssl_vc.evaluate.pairs import Task
    from ssl_vc.evaluate.protocol import Protocol
    from ssl_vc.evaluate.systems import System

PROTOCOL = "protocol.yaml"
NONE = "none"


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
    clips: Annotated[str | None, typer.Option(help="A table or folder of clips, for a protocol.")] = None,
    split: Annotated[str | None, typer.Option(help="Which rows of that table.")] = None,
    utterances: Annotated[int, typer.Option(min=1, help="With --protocol: sources of each speaker.")] = 20,
    targets: Annotated[int, typer.Option(min=0, help="With --protocol: targets of each source; 0 for all.")] = 1,
    reference_seconds: Annotated[
        list[str] | None,
        typer.Option(metavar="SECONDS...", help="Of each target's recordings; several draw a curve. `all` for all."),
    ] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Only so many pairs, evenly chosen.")] = None,
    converted: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FOLDER...", help="Judge sounds made elsewhere, called as the pairs are."),
    ] = None,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Judge too: mel-knn (nothing learned), or copy-synthesis: mel/griffin-lim, world/world ..."),
    ] = None,
    weights: Annotated[list[str] | None, typer.Option(help="Of vocoders for copy-synthesis.")] = None,
    model: Annotated[str | None, typer.Option(help=MODEL, show_default="tiny")] = None,
    vocoder: Annotated[str | None, typer.Option(help=VOCODER)] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer to match; several are compared.")] = None,
    matcher: Annotated[list[str] | None, typer.Option(help="See `ssl-vc convert`; several are compared.")] = None,
    k: Annotated[list[int] | None, typer.Option(help="How many neighbours; several are compared.")] = None,
    blend: Annotated[list[float] | None, typer.Option(help="1: matched frames, 0: the source's own; several.")] = None,
    pitch: Annotated[list[str] | None, typer.Option(help="keep, match, or semitones; several are compared.")] = None,
    recogniser: Annotated[
        str | None, typer.Option(help="pocketsphinx, pocketsphinx:general, a transformers id or folder, or none.")
    ] = None,
    verifier: Annotated[
        str | None, typer.Option(help="resemblyzer, a transformers x-vector id or folder, or none.")
    ] = None,
    dnsmos: Annotated[Path | None, typer.Option(help="sig_bak_ovr.onnx of DNSMOS.", readable=False)] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ... or mps.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line per system.")] = False,
) -> None:
    """Judge conversions: word errors, speaker similarity, melody, spectrum, naturalness, cost, with intervals."""
    from ssl_vc.evaluate.outputs import FILES, as_text, summary_facts, write_results
    from ssl_vc.evaluate.pairs import Task
    from ssl_vc.evaluate.protocol import write_protocol
    from ssl_vc.evaluate.run import evaluate as judge
    from ssl_vc.evaluate.systems import Natural

    existing = [output / name for name in (*FILES, PROTOCOL) if (output / name).exists()]
    if existing and not force:
        raise ValueError(f"{existing[0]} exists; --force overwrites it.")
    for each in matcher or ():
        check_matcher(each)
    lengths = [number_or(each, "all") for each in reference_seconds or []]
    made = {"utterances": utterances, "targets_per_source": targets}
    chosen = _changed(_chosen(pairs, protocol, clips, split, made, lengths), lengths, first, recogniser, verifier)
    task = chosen if isinstance(chosen, Task) else chosen.task()
    systems: list[System] = [Natural(), *_elsewhere(converted, task)]
    own = None if model is None and (beside or len(systems) > 1) else model or "tiny"
    systems += _beside(beside or [], weights, own or "tiny", layer[0] if layer else None, device)
    if own is not None:
        grid: dict[str, Any] = {"layer": layer, "matcher": matcher, "k": k, "blend": blend}
        grid["pitch"] = [number_or(each, "keep", "match") for each in pitch] if pitch else None
        models = {"vocoder": vocoder, "device": device, "offline": offline}
        systems += _conversions(own, models, {name: values for name, values in grid.items() if values})
    judges, versions = _judges(task, dnsmos, device, offline)
    output.mkdir(parents=True, exist_ok=True)
    if not isinstance(chosen, Task):
        with_versions = replace(chosen, versions=chosen.versions or versions)
        write_protocol(with_versions, output / PROTOCOL)
    results = judge(task, systems, judges, output, _watch)
    write_results(results, task, output)
    if as_json:
        for row in results.summaries:
            typer.echo(json.dumps(summary_facts(row)))
    else:
        typer.echo(f"{as_text(results)}\n\n{output / 'index.html'}")
    if all(outcome.error for outcome in results.outcomes if outcome.system != Natural.name):
        raise ValueError(f"nothing could be judged: {results.outcomes[-1].error}")


def _chosen(
    pairs: Path | None,
    protocol: ProtocolName | None,
    clips: str | None,
    split: str | None,
    made: dict[str, Any],
    lengths: Sequence[float | str],
) -> "Protocol | Task":
    """Read the pairs, or choose them."""
    from ssl_vc.evaluate.pairs import read_pairs
    from ssl_vc.evaluate.protocol import knn_vc, read_protocol

    if (pairs is None) == (protocol is None):
        raise typer.BadParameter("give PAIRS (a table or a protocol's file), or choose them by --protocol and --clips")
    if pairs is None:
        if clips is None:
            raise typer.BadParameter("--protocol chooses from --clips, a table or folder of clips")
        return knn_vc(clips, split or "", **made, reference_seconds=[_seconds(each) for each in lengths] or [None])
    if pairs.suffix.lower() not in (".yaml", ".yml"):
        return read_pairs(pairs)
    found = read_protocol(pairs)
    return replace(found, clips=clips or found.clips, split=split or found.split)


def _changed(
    chosen: "Protocol | Task",
    lengths: Sequence[float | str],
    first: int | None,
    recogniser: str | None,
    verifier: str | None,
) -> "Protocol | Task":
    """Change what the command line says."""
    from ssl_vc.evaluate.pairs import Task

    changes: dict[str, Any] = {"recogniser": recogniser, "verifier": verifier}
    if lengths:
        changes["reference_seconds"] = [*map(_seconds, lengths)] if isinstance(chosen, Task) else [*lengths]
    if first:
        count = len(chosen.pairs)
        changes["pairs"] = tuple(chosen.pairs[index * count // first] for index in range(min(first, count)))
    return replace(chosen, **{name: value for name, value in changes.items() if value is not None})


def _seconds(length: float | str) -> float | None:
    return None if isinstance(length, str) else length


def _elsewhere(converted: Sequence[str] | None, task: "Task") -> "Iterator[System]":
    """Give the sounds that were made elsewhere, by the list of pairs or in folders."""
    from ssl_vc.evaluate.systems import Files

    if any(pair.converted for pair in task.pairs):
        yield Files("converted")
    for each in converted or ():
        name, equals, folder = each.rpartition("=")
        yield Files(name if equals else Path(folder).name, Path(folder))


def _beside(
    names: Sequence[str], weights: Sequence[str] | None, encoder: str, layer: int | None, device: str
) -> "Iterator[System]":
    from ssl_vc.copysynth import Routes
    from ssl_vc.evaluate.systems import MEL, CopySynthesis, mel_knn

    routes = Routes(weights, encoder, layer, device)
    for name in names:
        if name != MEL and "/" not in name:
            raise typer.BadParameter(f"there is no {name!r} to judge beside; possible are {MEL} and FEATURES/VOCODER")
        yield mel_knn(device) if name == MEL else CopySynthesis(name, routes)


def _conversions(model: str, models: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> "Iterator[System]":
    """Give a system for each combination of settings, named by what differs."""
    from ssl_vc.evaluate.systems import Conversion

    for values in itertools.product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        said = [f"{name} {value}" for name, value in options.items()]
        several = [f"{name} {value}" for name, value in options.items() if len(grid[name]) > 1]
        layer = options.pop("layer", None)
        converter = ssl_vc.VoiceConverter.from_pretrained(model, layer=layer, **models)
        name = ", ".join([Path(model).name, *several])
        yield Conversion(name, ", ".join([f"conversion by {model}", *said]), converter, options)


def _judges(task: "Task", dnsmos: Path | None, device: str, offline: bool) -> "tuple[Judges, dict[str, str]]":
    """Call the judges, and say where they are not those that the protocol names."""
    from ssl_vc.evaluate.judging import Judges
    from ssl_vc.evaluate.people import People
    from ssl_vc.evaluate.quality import Dnsmos
    from ssl_vc.evaluate.recogniser import load_recogniser
    from ssl_vc.evaluate.verifier import load_verifier

    place: dict[str, Any] = {"device": device, "offline": offline}
    texts = [pair.text for pair in task.pairs if pair.text]
    recogniser = load_recogniser(task.recogniser, texts, **place) if task.recogniser != NONE and texts else None
    verifier = load_verifier(task.verifier, **place) if task.verifier != NONE else None
    versions = {name: version for judge in (recogniser, verifier) if judge for name, version in judge.versions.items()}
    for name, version in task.versions.items():
        if versions.get(name, version) != version:
            say("warning", f"the protocol was made with {name} {version}; {versions[name]} may give other figures.")
    people = None if verifier is None else People(task, verifier)
    return Judges(recogniser, people, None if dnsmos is None else Dnsmos(dnsmos)), versions


def _watch(things: Sequence[Any], label: str) -> Iterable[Any]:
    return tqdm(things, label, disable=None, leave=False)
