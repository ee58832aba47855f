"""The studio: the models behind the widgets, loaded once for all users; what is a user's own stays in his session."""

import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import Any
from weakref import WeakSet

import gradio as gr
import soundfile

import ssl_vc
from demos.uploads import REFERENCE_MINUTES, Sent, check_sounds, given
from ssl_vc.tts.speak import load_text_model

log = logging.getLogger(__name__)

WORK = "work"  # one thing at a time: the models share the processor
MARK = "Synthetic speech, made with ssl-vc"
KEPT = 3  # voices of a session
PATH = re.compile(r"'(?:/[^/']+)+/([^/']+)'|(?:/[^/\s']+)+/([^/\s']+)")

MINUTES_KEPT = 60  # of a session that does nothing


class Held:
    """The voices of a session."""

    def __init__(self) -> None:
        self.voices: dict[Any, ssl_vc.Voice] = {}
        self.used = time.monotonic()


class Studio:
    """Models.

    Args:
        model: see `ssl_vc.VoiceConverter.from_pretrained`.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        offline: fetch nothing.
    """

    def __init__(self, model: str = "tiny", device: str = "auto", offline: bool = False) -> None:
        self.model, self.device, self.offline = model, device, offline
        self._sessions: WeakSet[Held] = WeakSet()

    @cached_property
    def converter(self) -> "ssl_vc.VoiceConverter":
        """Give what converts."""
        return ssl_vc.VoiceConverter.from_pretrained(self.model, device=self.device, offline=self.offline)

    @cached_property
    def speech(self) -> "ssl_vc.TextToSpeech":
        """Give what speaks."""
        return ssl_vc.TextToSpeech(load_text_model(), self.converter)

    @cached_property
    def codec(self) -> "ssl_vc.UnitCodec":
        """Give what makes units."""
        return ssl_vc.UnitCodec.from_pretrained(device=self.device)

    def voice(
        self, held: Held, files: Sent, spoken: Sent = None, saved: Sent = None, other: Sent = None, share: float = 0.0
    ) -> "ssl_vc.Voice | None":
        """Give the voice of a session, made anew only where what it is made of has changed; None if there is none.

        Args:
            held: the session's voices.
            files: recordings.
            spoken: one more, by microphone.
            saved: a .voice file, instead.
            other: recordings or a .voice file of a second voice.
            share: of the second voice.
        """
        recordings = [each for sent in (files, spoken) if sent for each in ([sent] if isinstance(sent, str) else sent)]
        if not recordings and not saved:
            return None
        first = self._one(held, given(saved or recordings, "a voice"))
        if not other or not share:
            return first
        second = self._one(held, given(other, "a second voice"))
        return second if share == 1 else ssl_vc.Voice.mix([(first, 1 - share), (second, share)])

    def forget(self, minutes: float = MINUTES_KEPT) -> None:
        """Forget the voices of sessions that did nothing for so long."""
        for held in list(self._sessions):
            if time.monotonic() - held.used > 60 * minutes:
                held.voices.clear()

    def _one(self, held: Held, paths: Sequence[Path]) -> "ssl_vc.Voice":
        self._sessions.add(held)
        held.used = time.monotonic()
        key, voices = tuple(map(str, paths)), held.voices
        if key not in voices:
            saved = [path for path in paths if path.suffix.lower() == ".voice"]
            if saved and len(paths) > 1:
                raise ValueError("Give one .voice file, or recordings, not both.")
            if saved:
                voices[key] = ssl_vc.Voice.load(saved[0])
            else:
                check_sounds(paths, REFERENCE_MINUTES)
                voices[key] = self.converter.enroll(list(paths), paths[0].stem)
            while len(voices) > KEPT:
                del voices[next(iter(voices))]
        return voices[key]


class Brake:
    """What stops a user's work: his own, and seen by it between its steps."""

    pulled = running = False


def start_and_stop(
    go: gr.Button, stop: gr.Button, work: Callable[..., Iterator[Any]], inputs: list[Any], outputs: list[Any], name: str
) -> None:
    """Let one button begin the work, whose last output is a status, and the other one end it.

    Args:
        go: begins.
        stop: ends.
        work: takes a `Brake`, then the inputs.
        inputs: of the work.
        outputs: of the work, the last one a text.
        name: for programs.
    """
    brake = gr.State(Brake())

    def renew(earlier: Brake) -> Brake:
        earlier.pulled = True  # what was begun before ends
        return Brake()

    def pull(brake: Brake) -> Any:
        brake.pulled = True
        return "stopping …" if brake.running else gr.skip()

    released = go.click(renew, brake, brake, queue=False, api_visibility="private")
    released.then(work, [brake, *inputs], outputs, api_name=name, concurrency_limit=1, concurrency_id=WORK)
    stop.click(pull, brake, outputs[-1], queue=False, api_visibility="private")


def told(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Make messages of errors: a sentence of ours as it is, without our folders; of others no detail.

    Where the first argument is a `Brake`, the work ends at its next step once that is pulled, and says so last.
    """

    @wraps(function)
    def run(*arguments: Any, **named: Any) -> Iterator[Any]:
        brake = arguments[0] if arguments and isinstance(arguments[0], Brake) else Brake()
        brake.running = True
        try:
            for step in function(*arguments, **named):
                if brake.pulled:
                    yield (*(gr.skip() for _ in step[1:]), "stopped")
                    return
                yield step
        except gr.Error:
            raise
        except (ValueError, OSError) as error:
            raise gr.Error(without_folders(str(error)), title="That did not work", print_exception=False) from None
        except Exception:
            log.exception("%s failed", function.__name__)
            raise gr.Error("Something failed that should not; the server's log tells what.") from None
        finally:
            brake.running = False

    return run


def without_folders(message: str) -> str:
    """Give a message in which files have names, and no folders."""
    return PATH.sub(lambda found: found[1] or found[2], message)


def short(name: str) -> str:
    """Give a name that any file system takes, of what a user calls something."""
    return "".join(sign if sign.isalnum() or sign in "-_ ." else "_" for sign in name)[:50].strip(". ") or "voice"


class Folder(tempfile.TemporaryDirectory[str]):
    """A folder for what a call makes: gradio takes its copy as soon as it is given, then this goes."""

    def __enter__(self) -> Path:  # type: ignore[override]
        return Path(super().__enter__())


def write(path: Path, wav: Any, rate: int) -> str:
    """Write a sound that tells of itself that nobody said it; give the file's name."""
    ssl_vc.write(path, wav, rate)
    with soundfile.SoundFile(path, "r+") as file:
        file.comment = MARK
    return str(path)
