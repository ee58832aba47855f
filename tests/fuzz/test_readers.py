"""Fuzzing: readers turn damaged files into a value or one sentence, in bounded time and memory.

Each example is a valid file that is cut, flipped, spliced, or declares other sizes. A few examples run by default;
with SSL_VC_FUZZ_SECONDS=60 each reader gets new ones for a minute. hypothesis then keeps a failing example in
.hypothesis, tries it first in the next run, and prints its bytes; after a crash, pytest's temporary folder has it.
"""

import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

resource = pytest.importorskip("resource")  # not on Windows
SECONDS = float(os.environ.get("SSL_VC_FUZZ_SECONDS", "0"))
PROFILE = settings(
    max_examples=500 if SECONDS else 8,
    derandomize=not SECONDS,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples") if SECONDS else None,
    deadline=None,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
CPU_SECONDS = 10  # that one example may take
MEMORY = 2**30  # likewise; a valid file needs a few megabytes
TEXT = {".csv", ".tsv", ".scp", ".yaml", ""}
SIZES = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
NAN, INF = float("nan"), float("inf")
ODD = (None, True, -1, 0, 1, 7, 2**31, 2**63, 10**30, 1e-300, 1e308, NAN, INF, "", "x", "\0", [], {}, [[]])
WORDS = (
    *(
        "0",
        "-1",
        "3",
        "99999999999",
        "1e999",
        "nan",
        "inf",
        "null",
        "true",
        "é",
        "\ufeff",
        "\x85",
        "\0",
        "\t",
        "\n",
        "\r",
    ),
    *(
        '"',
        "'",
        ",",
        ":",
        "[",
        "{",
        "}",
        "- ",
        "? ",
        "&a ",
        "*a",
        "<<",
        "!!python/name:os.system",
        "${a}",
        "${oc.env:NO}",
    ),
)


@st.composite
def damaged_files(draw, reader):
    """Name and content of a valid file with a few faults."""
    name = draw(st.sampled_from(sorted(reader.files)))
    content, suffix = reader.files[name], Path(name).suffix
    if suffix == ".json" and draw(st.integers(0, 3)):
        return name, draw(damaged_trees(content))
    if suffix in TEXT and draw(st.integers(0, 3)):
        return name, draw(damaged_texts(content))
    for _ in range(draw(st.integers(1, 3))):
        content = draw(damaged_bytes(content, [*reader.files.values()]))
    return name, reader.repair(content) if draw(st.booleans()) else content


@st.composite
def damaged_bytes(draw, content, others):
    start, stop = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    before, part, after = content[:start], content[start:stop], content[stop:]
    kind = draw(st.sampled_from(("cut", "flip", "size", "insert", "remove", "repeat", "splice")))
    if kind == "cut":
        return before
    if kind == "flip":
        bit = 1 << draw(st.integers(0, 7))
        return before + bytes(byte ^ bit for byte in content[start : start + 1]) + content[start + 1 :]
    if kind == "size":
        width, order = draw(st.sampled_from((1, 2, 4, 8))), draw(st.sampled_from(("little", "big")))
        size = draw(st.sampled_from(SIZES)) % 256**width
        return before + size.to_bytes(width, order) + content[start + width :]
    if kind == "insert":
        return before + draw(st.binary(max_size=8)) + after
    if kind == "splice":
        other = draw(st.sampled_from(others))
        return before + other[draw(st.integers(0, len(other))) :]
    return before + part * (0 if kind == "remove" else draw(st.sampled_from((2, 3, 100)))) + after


@st.composite
def damaged_texts(draw, content):
    words = re.findall(r"\w+|\W", content.decode())
    for _ in range(draw(st.integers(1, 3))):
        at, count = draw(st.integers(0, len(words))), draw(st.integers(0, 2))
        new = draw(st.lists(st.sampled_from(WORDS), max_size=2))
        words[at : at + count] = new * draw(st.sampled_from((1, 1, 1, 2000)))
    return "".join(words).encode()


@st.composite
def damaged_trees(draw, content):
    tree = json.loads(content)
    for _ in range(draw(st.integers(1, 2))):
        node = tree
        while node:
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            if isinstance(node[key], dict | list) and node[key] and draw(st.booleans()):
                node = node[key]
                continue
            node[key] = deepcopy(draw(st.sampled_from(ODD)))  # or a second change makes it contain itself
            if isinstance(node, dict) and not draw(st.integers(0, 4)):
                node[str(draw(st.sampled_from(ODD)))] = node.pop(key)
            break
    return json.dumps(tree).encode()


@contextmanager
def bounded():
    """Fail for what takes more than its share of memory or time, and interrupt what hangs."""

    def interrupt(*_):
        raise TimeoutError("it hangs")

    handler, limits = signal.signal(signal.SIGALRM, interrupt), resource.getrlimit(resource.RLIMIT_AS)
    if sys.platform == "linux":  # others do not enforce it
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, limits[1]))
    start = time.process_time()
    signal.alarm(20 * CPU_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - start < CPU_SECONDS


def check_reading(read, path):
    with bounded():
        try:
            read(path)
        except (ValueError, typer.BadParameter) as error:
            kind, message = type(error), str(error)
            assert kind in (ValueError, typer.BadParameter) or kind.__module__.startswith("ssl_vc."), repr(error)
            assert message.endswith(".") or kind is typer.BadParameter, message  # whose full stop `main` adds


@pytest.mark.filterwarnings("ignore")
def test_valid_files_are_read(reader):
    files, folder = reader
    for name in files.files:
        assert files.read(folder / name) is not None


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_a_value_or_a_sentence(reader, request):
    files, folder = reader
    end = time.monotonic() + SECONDS

    def check(file):
        name, content = file
        (folder / name).write_bytes(content)
        check_reading(files.read, folder / name)
        (folder / name).write_bytes(files.files[name])

    check.__name__ = request.node.callspec.id  # by which hypothesis keeps failing examples
    fuzz = PROFILE(given(damaged_files(files))(check))
    fuzz()
    while time.monotonic() < end:
        fuzz()
