"""The house in figures: python tests/house/structure.py [FOLDER] prints rooms, floors, arrows and the sizes of things.

A room is a package below the root of one of ours, or a module at that root; an arrow leads from a room to one that it
imports; the floors are the rooms of the longest chain of arrows.
"""

import ast
import statistics
import sys
from functools import cache
from pathlib import Path

PACKAGES = ("demos", "ssl_vc", "pretrain", "vocoder")


def modules(root: Path) -> dict[str, Path]:
    """Returns the modules by name."""
    paths = (path for package in PACKAGES for path in (root / package).rglob("*.py"))
    return {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(tree: ast.AST) -> set[str]:
    """Returns every name that a module imports, wherever in it, as module.name."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def measure(root: Path) -> dict[str, object]:
    """Returns the figures of a checkout."""
    paths = modules(root)
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in paths.items()}
    rooms = {name: ".".join(name.split(".")[:2]) for name in paths}
    arrows: dict[str, set[str]] = {room: set() for room in rooms.values()}
    for name, tree in trees.items():
        for other in imported(tree):
            while other and other not in paths:
                other = other.rpartition(".")[0]
            # a package's own file only gathers names, so nothing stands on it
            if "." in other and rooms[other] != rooms[name] and "." in name:
                arrows[rooms[name]].add(rooms[other])

    @cache
    def floor(room: str) -> int:
        return 1 + max(map(floor, arrows[room]), default=0)

    functions = [
        ((node.end_lineno or 0) - node.lineno + 1, f"{name}.{node.name}")
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    sizes = sorted(size for size, _ in functions)
    roots = (str(len(list((root / package).glob("*.py")))) for package in PACKAGES[1:])
    return {
        "rooms": len(arrows),
        "floors": max(map(floor, arrows)),
        "arrows": sum(map(len, arrows.values())),
        "modules at the roots of ssl_vc, pretrain, vocoder": ", ".join(roots),
        "modules": len(paths),
        "lines": sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths.values()),
        "function lines, median": statistics.median(sizes),
        "function lines, 90 % and max": f"{sizes[len(sizes) * 9 // 10]}, {sizes[-1]}",
        "functions above 50 lines": sum(size > 50 for size in sizes),
        "longest": ", ".join(f"{name} {size}" for size, name in sorted(functions, reverse=True)[:8]),
    }


if __name__ == "__main__":
    for what, figure in measure(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        sys.stdout.write(f"{what}: {figure}\n")
