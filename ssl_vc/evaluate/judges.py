"""Choose and load the judges of an evaluation, by name or from a folder.

A folder of judges holds any of `whisper/` (a Whisper model of CTranslate2), `campplus.onnx` or one other verifier in
ONNX, and `sig_bak_ovr.onnx` (DNSMOS).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ssl_vc.evaluate.distill_mos import DistillMos, has_distill_mos
from ssl_vc.evaluate.pairs import TestSet
from ssl_vc.evaluate.quality import Dnsmos
from ssl_vc.evaluate.recogniser import load_recogniser
from ssl_vc.evaluate.scoring import Judges
from ssl_vc.evaluate.speaker_references import SpeakerReferences
from ssl_vc.evaluate.text_errors import load_jiwer
from ssl_vc.evaluate.verifier import load_verifier

NONE = "none"
WHISPER, CAMPPLUS, DNSMOS = "whisper", "campplus.onnx", "sig_bak_ovr.onnx"
CLOSED_VOCABULARY, LENIENT_VERIFIER = "pocketsphinx", "resemblyzer"  # the fallbacks
LENIENT_NOTE = (
    f"{CLOSED_VOCABULARY} knows the test sentences and {LENIENT_VERIFIER} rates different speakers as similar, so "
    "their figures are optimistic; --judges FOLDER loads stricter ones."
)


class JudgeFiles(NamedTuple):
    """Judges in a folder; None where there is none."""

    recogniser: str | None
    verifier: str | None
    dnsmos: Path | None


class LoadedJudges(NamedTuple):
    """Judges ready to score.

    Attributes:
        judges: the models.
        test_set: names the chosen judges, with their versions.
        notes: caveats on their figures, one sentence each.
    """

    judges: Judges
    test_set: TestSet
    notes: list[str]


def find_judges(folder: Path, verifier: str = "") -> JudgeFiles:
    """Find the judges in a folder; raises ValueError if there are none.

    Args:
        folder: the folder.
        verifier: chosen elsewhere, so several in the folder are no problem.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {str(folder)!r} of judges.")
    verifiers = sorted(file for file in folder.glob("*.onnx") if file.name != DNSMOS)
    preferred = [file for file in verifiers if file.name == CAMPPLUS]
    if len(verifiers) > 1 and not preferred and not verifier:
        raise ValueError(f"{folder} holds {len(verifiers)} verifiers; choose one with --verifier {verifiers[0]}.")
    whisper, dnsmos = folder / WHISPER, folder / DNSMOS
    found = JudgeFiles(
        f"whisper:{whisper}" if whisper.is_dir() else None,
        str((preferred or verifiers)[0]) if verifiers else None,
        dnsmos if dnsmos.is_file() else None,
    )
    if not any(found):
        raise ValueError(f"{folder} holds no judge; possible are {WHISPER}/, {CAMPPLUS} and {DNSMOS}.")
    return found


def load_judges(
    test_set: TestSet,
    folder: Path | None = None,
    *,
    dnsmos: Path | None = None,
    distill_mos: bool = False,
    device: str = "auto",
    offline: bool = False,
) -> LoadedJudges:
    """Load the judges of a test set.

    Args:
        test_set: may name them; the others come from the folder.
        folder: see `find_judges`; the fallbacks, which work everywhere, if None.
        dnsmos: file of DNSMOS; the folder's if None.
        distill_mos: use DistillMOS; with a folder, it is used wherever it is installed.
        device: auto, cpu, cuda, cuda:1 ... or mps; for models of transformers.
        offline: download nothing.
    """
    found = JudgeFiles(None, None, None) if folder is None else find_judges(folder, test_set.verifier)
    test_set = replace(
        test_set,
        recogniser=test_set.recogniser or found.recogniser or CLOSED_VOCABULARY,
        verifier=test_set.verifier or found.verifier or LENIENT_VERIFIER,
    )
    options: dict[str, Any] = {"device": device, "offline": offline}
    texts = [pair.text for pair in test_set.pairs if pair.text]
    recogniser = verifier = None
    if test_set.recogniser != NONE and texts:
        load_jiwer()  # reports a missing package before anything is generated
        recogniser = load_recogniser(test_set.recogniser, texts, language=test_set.language, **options)
    if test_set.verifier != NONE:
        verifier = load_verifier(test_set.verifier, **options)
    dnsmos = dnsmos or found.dnsmos
    quality = None if dnsmos is None else Dnsmos(dnsmos)
    mos = DistillMos() if distill_mos or (folder is not None and has_distill_mos()) else None
    # last, because it embeds all clips of the speakers
    judges = Judges(recogniser, None if verifier is None else SpeakerReferences(test_set, verifier), quality, mos)
    versions = {name: version for judge in (recogniser, verifier) if judge for name, version in judge.versions.items()}
    notes = _version_notes(test_set.versions, versions)
    if (recogniser is not None and test_set.recogniser == CLOSED_VOCABULARY) or test_set.verifier == LENIENT_VERIFIER:
        notes.append(LENIENT_NOTE)
    return LoadedJudges(judges, replace(test_set, versions=versions), notes)


def _version_notes(wanted: Mapping[str, str], loaded: Mapping[str, str]) -> list[str]:
    return [
        f"The protocol was made with {name} {version}; {loaded[name]} may give other figures."
        for name, version in wanted.items()
        if loaded.get(name, version) != version
    ]
