"""`ssl-vc models`: what exists, its licence, size and checksum; and the published files, fetched and verified."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from ssl_vc.cli.messages import say

if TYPE_CHECKING:
    from ssl_vc.hub.download import Asset
    from ssl_vc.hub.registry import Model

models = typer.Typer(help="Models by name: what exists, its licence, size and checksum.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, such as knn-vc.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON line per result.")]


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the models that have a name."""
    from ssl_vc.hub.registry import MODELS

    rows = [("name", "rate", "licence", "size", "state")]
    for known in MODELS.values():
        facts = _facts(known)
        if as_json:
            typer.echo(json.dumps(facts))
        size = _readable(facts["size"]) if facts["size"] else "-" if not known.assets else "not known"
        rows.append((known.name, f"{known.sample_rate} Hz", known.licence, size, facts["state"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not as_json:
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@models.command()
def info(name: Name, as_json: AsJson = False) -> None:
    """Say all there is to know of a model."""
    from ssl_vc.hub.registry import model

    known = model(name)
    facts = _facts(known)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    heard = {True: "normalised", False: "as it is", None: "as its encoder wants it"}[known.normalized]
    lines = [("name", known.name), ("what", known.what), ("licence", known.licence), ("notes", known.notes)]
    lines += [("rate", f"{known.sample_rate} Hz"), ("layer", str(known.layer or "its encoder's choice"))]
    lines += [("waveform", heard), ("state", facts["state"])]
    for each in facts["files"]:
        lines += [("", ""), ("file", each["file"]), ("address", each["url"]), ("size", _bytes(each["size"]))]
        lines += [("sha256", _of_checksum(each)), ("state", each["state"]), ("here", each["path"])]
        lines += [("part", f"{each['part']} bytes are here already")] if each["part"] else []
    for key, value in lines:
        typer.echo(f"{key:10}{value}".rstrip())


@models.command()
def fetch(
    name: Name,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing; verify what is here.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Fetch anew what is here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a model's files, or go on where it broke off, and verify every byte."""
    from ssl_vc.hub.registry import model

    if offline and force:
        raise typer.BadParameter("--offline fetches nothing, and --force fetches anew; give one of them")
    known = model(name)
    if not known.assets:
        if not known.bundled:
            raise ValueError(f"the model {name!r} is not in this version, and is published nowhere yet.")
        say("done", f"{name} comes with this version; there is nothing to fetch.")
    for asset in known.assets:
        path = _fetch(asset, offline, force)
        facts = _facts_of(asset)
        line = f"{path}: {_bytes(facts['size'])}, verified; sha256 {_of_checksum(facts)}"
        typer.echo(json.dumps({"model": name, **facts}) if as_json else line)


def _fetch(asset: "Asset", offline: bool, force: bool) -> Path:
    from ssl_vc.hub import download

    with tqdm(desc=asset.name, unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def watch(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return download.fetch(asset, offline=offline, force=force, thorough=True, progress=watch)


def _facts(known: "Model") -> dict[str, Any]:
    """What a model is, for people and programs."""
    files = [_facts_of(asset) for asset in known.assets]
    if known.assets:
        state = "fetched" if all(each["state"] == "fetched" for each in files) else "to fetch"
    else:
        state = "bundled" if known.bundled else "not in this version"
    sizes = [each["size"] for each in files]
    facts = {key: value for key, value in asdict(known).items() if key not in ("encoder", "vocoder")}
    return facts | {"size": sum(sizes) if files and all(sizes) else None, "state": state, "files": files}


def _facts_of(asset: "Asset") -> dict[str, Any]:
    """What is known of a file, and what is here of it."""
    from ssl_vc.hub.download import state

    here = state(asset)
    return {
        "file": asset.name,
        "url": asset.url,
        "path": str(here.path),
        "size": here.size or asset.size,
        "part": here.part,
        "sha256": here.pin.sha256 if here.pin else asset.sha256,
        "pinned": here.pin.day if here.pin else None,
        "state": "to fetch" if here.size is None else "fetched",
    }


def _of_checksum(facts: dict[str, Any]) -> str:
    if facts["pinned"]:
        return f"{facts['sha256']} (pinned at the first fetch on {facts['pinned']}; the publisher gives none)"
    if facts["sha256"]:
        return f"{facts['sha256']} (as published)"
    return "the publisher gives none; it will be pinned at the first fetch"


def _bytes(size: int | None) -> str:
    return f"{size:,} bytes" if size else "not known"


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
