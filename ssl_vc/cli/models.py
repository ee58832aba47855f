"""`ssl-vc models`: list the models with licences, sizes and checksums; download and verify published files."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from tqdm import tqdm

from ssl_vc.cli import arguments
from ssl_vc.cli.messages import notify

if TYPE_CHECKING:
    from ssl_vc.hub.download import Asset
    from ssl_vc.hub.registry import Model

models = typer.Typer(help="List, inspect and download models.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model, such as knn-vc.")]


@models.command("list")
def list_models(as_json: arguments.Json = False) -> None:
    """List the named models."""
    from ssl_vc.hub.registry import MODELS

    rows = [("name", "rate", "licence", "size", "state")]
    for known in MODELS.values():
        details = _describe(known)
        if as_json:
            typer.echo(json.dumps(details))
        size = _readable(details["size"]) if details["size"] else "-" if not known.assets else "unknown"
        rows.append((known.name, f"{known.sample_rate} Hz", known.licence, size, details["state"]))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not as_json:
        for row in rows:
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@models.command()
def info(name: Name, as_json: arguments.Json = False) -> None:
    """Show everything about a model."""
    from ssl_vc.hub.registry import model

    known = model(name)
    details = _describe(known)
    if as_json:
        typer.echo(json.dumps(details))
        return
    waveform = {True: "normalised", False: "raw", None: "as its encoder expects"}[known.normalized]
    lines = [("name", known.name), ("what", known.what), ("licence", known.licence), ("notes", known.notes)]
    lines += [("rate", f"{known.sample_rate} Hz"), ("layer", str(known.layer or "the encoder's choice"))]
    lines += [("waveform", waveform), ("state", details["state"])]
    for file in details["files"]:
        lines += [("", ""), ("file", file["file"]), ("address", file["url"]), ("size", _bytes(file["size"]))]
        lines += [("sha256", _checksum_note(file)), ("state", file["state"]), ("path", file["path"])]
        lines += [("part", f"{file['part']} bytes are downloaded")] if file["part"] else []
    for key, value in lines:
        typer.echo(f"{key:10}{value}".rstrip())


@models.command()
def fetch(
    name: Name,
    offline: Annotated[bool, typer.Option("--offline", help="Download nothing; verify existing files.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Download existing files again.")] = False,
    as_json: arguments.Json = False,
) -> None:
    """Download a model's files, resuming interrupted downloads, and verify every byte."""
    from ssl_vc.hub.registry import model

    if offline and force:
        raise typer.BadParameter("--offline and --force exclude each other; give one of them")
    known = model(name)
    if not known.assets:
        if not known.bundled:
            raise ValueError(f"the model {name!r} is not in this version, and not published yet.")
        notify("done", f"{name} is bundled; there is nothing to download.")
    for asset in known.assets:
        path = _fetch(asset, offline, force)
        file = _describe_file(asset)
        line = f"{path}: {_bytes(file['size'])}, verified; sha256 {_checksum_note(file)}"
        typer.echo(json.dumps({"model": name, **file}) if as_json else line)


def _fetch(asset: "Asset", offline: bool, force: bool) -> Path:
    from ssl_vc.hub import download

    with tqdm(desc=asset.name, unit="B", unit_scale=True, disable=None, leave=False) as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return download.fetch(asset, offline=offline, force=force, thorough=True, progress=update)


def _describe(known: "Model") -> dict[str, Any]:
    """Return everything about a model, as in --json."""
    files = [_describe_file(asset) for asset in known.assets]
    if known.assets:
        state = "fetched" if all(file["state"] == "fetched" for file in files) else "to fetch"
    else:
        state = "bundled" if known.bundled else "not in this version"
    sizes = [file["size"] for file in files]
    details = {key: value for key, value in asdict(known).items() if key not in ("encoder", "vocoder")}
    return details | {"size": sum(sizes) if files and all(sizes) else None, "state": state, "files": files}


def _describe_file(asset: "Asset") -> dict[str, Any]:
    """Return everything about a published file and its state in the cache."""
    from ssl_vc.hub.download import state

    cached = state(asset)
    return {
        "file": asset.name,
        "url": asset.url,
        "path": str(cached.path),
        "size": cached.size or asset.size,
        "part": cached.part,
        "sha256": cached.pin.sha256 if cached.pin else asset.sha256,
        "pinned": cached.pin.day if cached.pin else None,
        "state": "to fetch" if cached.size is None else "fetched",
    }


def _checksum_note(file: dict[str, Any]) -> str:
    if file["pinned"]:
        return f"{file['sha256']} (pinned at the first download on {file['pinned']}; none is published)"
    if file["sha256"]:
        return f"{file['sha256']} (as published)"
    return "none is published; it will be pinned at the first download"


def _bytes(size: int | None) -> str:
    return f"{size:,} bytes" if size else "unknown"


def _readable(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
