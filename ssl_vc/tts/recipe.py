"""Training settings of a text model."""

from dataclasses import dataclass, field
from typing import Any

RENAMED = {"letters": "g2p", "letters_steps": "g2p_steps", "cut": "segment"}


@dataclass(frozen=True, kw_only=True)
class TTSConfig:
    """Training settings of a text model.

    Attributes:
        clips: a manifest of clips with transcripts (see `pretrain.data.manifest.read_manifest`).
        split: rows of the manifest to use.
        speakers: to train on; all if empty.
        leave_out: prefixes of the keys of held-out clips.
        model: encoder and vocoder; see `VoiceConverter.from_pretrained`.
        shape: overrides of `ssl_vc.tts.acoustic.AcousticConfig`.
        g2p: file of a trained G2P model; trained on `dictionary` if empty.
        dictionary: pronouncing dictionary in the CMU format; pocketsphinx's if empty.
        g2p_steps: training steps of the G2P model.
        steps: training steps of the acoustic model.
        batch: sentences of similar length per step.
        segment: frames of each sentence, from a random start, that the decoder is trained on per step.
        longest: maximum duration of a clip, in seconds; longer ones are skipped.
        learning_rate: peak.
        average: decay of the moving average of the weights.
        minutes: stop and save after this time; 0 for no limit.
        save_every: steps between checkpoints.
        seed: of all randomness.
        device: auto, cpu, cuda, cuda:1 ... or mps.
        letters: former name of `g2p`.
        letters_steps: former name of `g2p_steps`.
        cut: former name of `segment`.
    """

    clips: str = ""
    split: str | None = None
    speakers: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    model: str = "tiny"
    shape: dict[str, Any] = field(default_factory=dict)
    g2p: str = ""
    dictionary: str = ""
    g2p_steps: int = 4000
    steps: int = 10_000
    batch: int = 16
    segment: int = 96
    longest: float = 12.0
    learning_rate: float = 1e-3
    average: float = 0.999
    minutes: float = 0.0
    save_every: int = 500
    seed: int = 0
    device: str = "auto"
    letters: str | None = None
    letters_steps: int | None = None
    cut: int | None = None

    def __post_init__(self) -> None:
        for old, new in RENAMED.items():
            if getattr(self, old) is not None:
                object.__setattr__(self, new, getattr(self, old))
                object.__setattr__(self, old, None)
        for name in ("g2p_steps", "steps", "batch", "segment", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must be in [0, 1).")
        for name in {"dim", "speakers"} & self.shape.keys():
            raise ValueError(f"shape.{name} is set; it is determined by the clips.")
