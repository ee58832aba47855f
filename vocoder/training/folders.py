"""Folders that a training replaces: nothing is removed but files that it wrote itself."""

from collections.abc import Collection
from pathlib import Path


def check_replaceable(folder: Path, written: Collection[str]) -> None:
    """Refuse a folder that holds anything but the files that we write there.

    Args:
        folder: to be replaced; it need not exist.
        written: names of these files, relative to the folder.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{folder} is a {'link' if folder.is_symlink() else 'file'}, not a folder; remove it.")
    parents = {parent.as_posix() for name in written for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        name, link = path.relative_to(folder).as_posix(), path.is_symlink()
        if link or name not in (parents if path.is_dir() else written):
            raise ValueError(
                f"{folder} would be replaced, but this training did not write {name} in it; move {name} elsewhere, or "
                "choose another folder."
            )


def remove_written(folder: Path, written: Collection[str]) -> None:
    """Remove a folder that holds nothing but the files that we write there; see `check_replaceable`."""
    check_replaceable(folder, written)
    if not folder.exists():
        return
    for name in written:
        (folder / name).unlink(missing_ok=True)
    for subfolder in sorted({(folder / name).parent for name in written}, reverse=True):  # the innermost first
        if subfolder.exists():
            subfolder.rmdir()
