"""The panel of judges of an evaluation: found in a folder, or by name, and loaded.

A folder of judges holds any of `whisper/` (a Whisper model of CTranslate2), `campplus.onnx` or one other verifier in
ONNX, and `sig_bak_ovr.onnx` (DNSMOS).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ssl_vc.evaluate.distill_mos import DistillMos, has_distill_mos
from ssl_vc.evaluate.judging import Judges
from ssl_vc.evaluate.pairs import Task
from ssl_vc.evaluate.people import People
from ssl_vc.evaluate.quality import Dnsmos
from ssl_vc.evaluate.recogniser import load_recogniser
from ssl_vc.evaluate.verifier import load_verifier
from ssl_vc.evaluate.words import counter

NONE = "none"
WHISPER, CAMPPLUS, DNSMOS = "whisper", "campplus.onnx", "sig_bak_ovr.onnx"
CLOSED, FORGIVING = "pocketsphinx", "resemblyzer"  # where nothing stricter is at hand
FLATTERS = (
    f"{CLOSED} knows the sentences that are said, and {FORGIVING} finds strangers alike, so figures by them flatter; "
    "--judges FOLDER calls stricter ones."
)


class Found(NamedTuple):
    """Judges in a folder; None is not there."""

    recogniser: str | None
    verifier: str | None
    dnsmos: Path | None


class Panel(NamedTuple):
    """Judges that are ready.

    Attributes:
        judges: who judges.
        task: names the judges that were chosen, with their versions.
        notes: what readers of their figures must know, a sentence each.
    """

    judges: Judges
    task: Task
    notes: list[str]


def find_judges(folder: Path, verifier: str = "") -> Found:
    """Returns what a folder of judges holds; ValueError if that is nothing.

    Args:
        folder: holds them.
        verifier: has been chosen elsewhere, so that the folder may hold any number of others.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r} of judges.")
    others = sorted(file for file in folder.glob("*.onnx") if file.name != DNSMOS)
    named = [file for file in others if file.name == CAMPPLUS]
    if len(others) > 1 and not named and not verifier:
        raise ValueError(f"{folder} holds {len(others)} verifiers; choose one by --verifier, such as {others[0]}.")
    whisper, dnsmos = folder / WHISPER, folder / DNSMOS
    found = Found(
        f"whisper:{whisper}" if whisper.is_dir() else None,
        str((named or others)[0]) if others else None,
        dnsmos if dnsmos.is_file() else None,
    )
    if not any(found):
        raise ValueError(f"{folder} holds no judge; it may hold {WHISPER}/, {CAMPPLUS} and {DNSMOS}.")
    return found


def load_panel(
    task: Task,
    folder: Path | None = None,
    *,
    dnsmos: Path | None = None,
    distill_mos: bool = False,
    device: str = "auto",
    offline: bool = False,
) -> Panel:
    """Load the judges of a task.

    Args:
        task: names them; what it leaves empty comes from the folder.
        folder: holds judges, see `find_judges`; those that work everywhere take their place if None.
        dnsmos: a file of DNSMOS; the folder's if None.
        distill_mos: call DistillMOS; with a folder it is called wherever it is installed.
        device: auto, cpu, cuda, cuda:1 ... or mps; for models of transformers.
        offline: fetch nothing.
    """
    found = Found(None, None, None) if folder is None else find_judges(folder, task.verifier)
    task = replace(
        task,
        recogniser=task.recogniser or found.recogniser or CLOSED,
        verifier=task.verifier or found.verifier or FORGIVING,
    )
    place: dict[str, Any] = {"device": device, "offline": offline}
    texts = [pair.text for pair in task.pairs if pair.text]
    recogniser = verifier = None
    if task.recogniser != NONE and texts:
        counter()  # says what is missing before anything is made
        recogniser = load_recogniser(task.recogniser, texts, language=task.language, **place)
    if task.verifier != NONE:
        verifier = load_verifier(task.verifier, **place)
    dnsmos = dnsmos or found.dnsmos
    quality = None if dnsmos is None else Dnsmos(dnsmos)
    mos = DistillMos() if distill_mos or (folder is not None and has_distill_mos()) else None
    # last, because it hears all clips of the speakers
    judges = Judges(recogniser, None if verifier is None else People(task, verifier), quality, mos)
    versions = {name: version for judge in (recogniser, verifier) if judge for name, version in judge.versions.items()}
    notes = [
        f"The protocol was made with {name} {version}; {versions[name]} may give other figures."
        for name, version in task.versions.items()
        if versions.get(name, version) != version
    ]
    if (recogniser is not None and task.recogniser == CLOSED) or task.verifier == FORGIVING:
        notes.append(FLATTERS)
    return Panel(judges, replace(task, versions=versions), notes)
