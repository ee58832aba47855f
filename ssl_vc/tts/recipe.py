"""How a text model is learned: the settings."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class TTSConfig:
    """How a text model is learned.

    Attributes:
        clips: a table of clips with texts (see `pretrain.data.manifest.read_manifest`).
        split: which rows of that table.
        speakers: whose clips; of all if empty.
        leave_out: clips whose key begins so are left out, so that there are sentences to judge by.
        model: whose encoder and vocoder; see `VoiceConverter.from_pretrained`.
        shape: what differs from the defaults of `ssl_vc.tts.acoustic.AcousticConfig`.
        letters: how words are read: a file of an earlier training; learned from `dictionary` if empty.
        dictionary: in the format of the CMU pronouncing dictionary; pocketsphinx's if empty.
        letters_steps: of learning to read words.
        steps: of learning to speak.
        batch: sentences in a step, of about one length.
        cut: frames of each, from a place by lot, that the decoder learns from in a step.
        longest: seconds of a clip; longer ones are left out.
        learning_rate: at its highest.
        average: how much of the averaged weights stays in a step.
        minutes: stop and save after so long; 0 for never.
        save_every: steps.
        seed: of all that is random.
        device: auto, cpu, cuda, cuda:1 ... or mps.
    """

    clips: str = ""
    split: str | None = None
    speakers: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    model: str = "tiny"
    shape: dict[str, Any] = field(default_factory=dict)
    letters: str = ""
    dictionary: str = ""
    letters_steps: int = 4000
    steps: int = 10_000
    batch: int = 16
    cut: int = 96
    longest: float = 12.0
    learning_rate: float = 1e-3
    average: float = 0.999
    minutes: float = 0.0
    save_every: int = 500
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("letters_steps", "steps", "batch", "cut", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must lie from 0 to below 1.")
        for name in {"dim", "speakers"} & self.shape.keys():
            raise ValueError(f"shape.{name} is set; it follows from the clips.")
