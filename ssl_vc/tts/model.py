"""Text model: what reads words, what says them, and whose speech it was learned from, as one folder.

config.json          shape, speakers, and what made the frames
model.safetensors    weights (see `ssl_vc.tts.packed`), means and deviations of the rows, timbres
letters.safetensors  how words are read
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ssl_vc.features.extractor import FrameSpec
from ssl_vc.files import replacing
from ssl_vc.tts.acoustic import Acoustic, AcousticConfig
from ssl_vc.tts.frames import Said, Speaker
from ssl_vc.tts.letters import Letters
from ssl_vc.tts.packed import pack, unpack
from ssl_vc.tts.symbols import Reader, Sentence, sentence_of

FORMAT = "ssl-vc text model 2"


class TextModel:
    """Says sentences in frames.

    Args:
        acoustic: symbols to rows.
        letters: words to phones.
        speakers: that it was learned from.
        mean: of the rows (dim,).
        deviation: of the rows (dim,).
        spec: of the frames that are matched.
        reads: what the vocoder reads.
    """

    def __init__(
        self,
        acoustic: Acoustic,
        letters: Letters,
        speakers: Sequence[Speaker],
        mean: Tensor,
        deviation: Tensor,
        spec: FrameSpec,
        reads: dict[str, Any],
    ) -> None:
        self.acoustic, self.letters, self.speakers = acoustic.eval(), letters, list(speakers)
        self.mean, self.deviation, self.spec, self.reads = mean, deviation, spec, reads
        self.said = Said(spec, reads)
        self.reader: Reader = letters.read

    def read(self, spoken: str) -> Sentence:
        """Give the symbols of a sentence as `ssl_vc.tts.text.spoken` writes it."""
        return sentence_of(spoken, self.reader)

    def say(
        self, sentence: Sentence, speaker: int = 0, *, melody: float = 1.0, **options: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Give what is matched, what the vocoder reads of the speaker himself, and the frames of each symbol.

        Args:
            sentence: its symbols.
            speaker: who says it, by number.
            melody: how many times as wide its pitch goes up and down.
            **options: of `Acoustic.say`.
        """
        device = self.acoustic.embed.weight.device
        symbols, begins = (torch.tensor(part, device=device) for part in sentence[:2])
        rows, lengths = self.acoustic.say(symbols, begins, speaker, **options)
        rows = rows.cpu() * self.deviation + self.mean
        rows[:, self.said.height] *= melody
        matched, spoken = self.said.unpack(rows, self.speakers[speaker])
        return matched, spoken, lengths.cpu()

    def save(self, folder: str | Path) -> None:
        """Write the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        facts = {
            "format": FORMAT,
            "acoustic": self.acoustic.facts,
            "speakers": [{"name": each.name, "level": each.level} for each in self.speakers],
            "spec": asdict(self.spec),
            "reads": self.reads,
        }
        timbres = torch.stack([each.timbre for each in self.speakers])
        numbers = {"rows.mean": self.mean, "rows.deviation": self.deviation, "rows.timbres": timbres}
        with replacing(folder / "model.safetensors") as part:
            save_file(pack(self.acoustic.state_dict()) | numbers, part)
        self.letters.save(folder / "letters.safetensors")
        with replacing(folder / "config.json") as part:
            part.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote."""
        folder = Path(folder)
        try:
            facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise ValueError(f"its format is {facts['format']!r}")
            tensors = unpack(load_file(folder / "model.safetensors"))
            mean, deviation, timbres = (tensors.pop(f"rows.{name}") for name in ("mean", "deviation", "timbres"))
            acoustic = Acoustic(AcousticConfig(**facts["acoustic"]))
            acoustic.load_state_dict(tensors)
            speakers = [Speaker(**each, timbre=timbre) for each, timbre in zip(facts["speakers"], timbres, strict=True)]
            spec = FrameSpec(**facts["spec"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{folder} holds no text model of ours ({str(error).splitlines()[0]}).") from None
        letters = Letters.load(folder / "letters.safetensors")
        return cls(acoustic.requires_grad_(False), letters, speakers, mean, deviation, spec, facts["reads"])


def is_text_model(folder: str | Path) -> bool:
    """Tell whether a folder holds a text model."""
    return (Path(folder) / "letters.safetensors").is_file()
