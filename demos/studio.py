"""The models behind the widgets, loaded once for all users; voices stay in the session that enrolled them."""

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from shutil import copyfile
from typing import Any

import gradio as gr
import soundfile
from gradio.utils import get_upload_folder

import ssl_vc
from demos.sessions import Session, Sessions
from demos.uploads import MAX_REFERENCE_MINUTES, Upload, require_present, sounds, uploaded
from ssl_vc.files import CheckedFile, replacing
from ssl_vc.tts.speak import load_text_model

COMMENT = "Synthetic speech, made with ssl-vc"  # in every file that the demo writes
DROPPED = "This voice was dropped to make room for others"


class Studio:
    """The models.

    Args:
        model: see `ssl_vc.VoiceConverter.from_pretrained`.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        offline: download nothing.
    """

    def __init__(self, model: str = "tiny", device: str = "auto", offline: bool = False) -> None:
        self.model, self.device, self.offline = model, device, offline
        self.sessions = Sessions()

    @cached_property
    def converter(self) -> "ssl_vc.VoiceConverter":
        """The voice converter."""
        return ssl_vc.VoiceConverter.from_pretrained(self.model, device=self.device, offline=self.offline)

    @cached_property
    def tts(self) -> "ssl_vc.TextToSpeech":
        """The text-to-speech model."""
        return ssl_vc.TextToSpeech(load_text_model(), self.converter)

    @cached_property
    def codec(self) -> "ssl_vc.UnitCodec":
        """The codec of discrete units."""
        return ssl_vc.UnitCodec.from_pretrained(device=self.device)

    def voice(
        self,
        session: Session,
        files: Upload,
        recorded: str | None = None,
        saved: Upload = None,
        other: Upload = None,
        share: float = 0.0,
    ) -> "ssl_vc.Voice | None":
        """Returns a session's voice, enrolled again only if its recordings changed; None without recordings.

        Args:
            session: the session's voices.
            files: recordings.
            recorded: one more, from the microphone.
            saved: a .voice file instead.
            other: recordings or a .voice file of a second voice.
            share: weight of the second voice.
        """
        recordings = [*([files] if isinstance(files, str) else files or []), *([recorded] if recorded else [])]
        if not recordings and not saved:
            return None
        first = self._enrolled(session, uploaded(saved or recordings, "a voice"))
        if not other or not share:
            return first
        second = self._enrolled(session, uploaded(other, "a second voice"))
        return second if share == 1 else ssl_vc.Voice.mix([(first, 1 - share), (second, share)])

    def required_voice(self, *panel: Any) -> "ssl_vc.Voice":
        """Returns the voice of a session, as `voice` does.

        Raises:
            ValueError: there is none.
        """
        voice = self.voice(*panel)
        if voice is None:
            raise ValueError("Add a target voice first: recordings of a speaker, or a saved voice.")
        return voice

    def _enrolled(self, session: Session, paths: Sequence[Path]) -> "ssl_vc.Voice":
        key = tuple(map(str, paths))
        voice = self.sessions.get(session, key)
        if voice is None:
            if key in session.dropped:
                if not all(path.is_file() for path in paths):
                    raise ValueError(f"{DROPPED}, and its files were deleted; upload them to enrol it again.")
                gr.Info(f"{DROPPED}; it is enrolled again.", title="Voice")
            voice = self._load(paths)
            self.sessions.add(session, key, voice)
        return voice

    def _load(self, paths: Sequence[Path]) -> "ssl_vc.Voice":
        """Returns the voice in a .voice file, or that of recordings."""
        require_present(paths)
        saved = [path for path in paths if path.suffix.lower() == ".voice"]
        if saved and len(paths) > 1:
            raise ValueError("Send either one .voice file or recordings, not both.")
        if saved:
            return ssl_vc.Voice.load(saved[0])
        sounds(paths, MAX_REFERENCE_MINUTES)  # only to refuse what is unusable
        return self.converter.enroll(list(paths), paths[0].stem)


class Folder(tempfile.TemporaryDirectory[str]):
    """A folder for the outputs of a call, in the demo's; gradio copies them at once, then it is removed."""

    def __init__(self) -> None:
        super().__init__(dir=Path(get_upload_folder()).parent)

    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


def file_name(name: str) -> str:
    """Returns a user's name for something as a name that every file system takes."""
    return "".join(sign if sign.isalnum() or sign in "-_ ." else "_" for sign in name)[:50].strip(". ") or "voice"


def write(path: Path, wav: Any, rate: int) -> str:
    """Write a sound and label it as synthetic; returns the file's path."""
    ssl_vc.write(path, wav, rate)
    label_synthetic(path)
    return str(path)


def label_synthetic(path: Path) -> None:
    """Note in a sound file that it is synthetic; it stays as it was if that fails."""
    with replacing(path) as temporary:
        copyfile(path, temporary)
        with CheckedFile(temporary, "r+") as file, soundfile.SoundFile(file, "r+") as sound:
            sound.comment = COMMENT
