"""Text model: G2P, acoustic model and training speakers, in one folder.

config.json          shape, speakers and feature specs
model.safetensors    weights (int8), means and deviations of the rows, timbres
letters.safetensors  the G2P model
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pretrain.encoder.weights import build, require_finite
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.files import read_json, replacing, require_file
from ssl_vc.tts.acoustic import AcousticConfig, AcousticModel, rename_layers
from ssl_vc.tts.g2p import G2PModel
from ssl_vc.tts.int8 import dequantize, quantize
from ssl_vc.tts.row_codec import RowCodec, Speaker
from ssl_vc.tts.symbols import Phonemizer, SymbolSequence, to_symbols

FORMAT = "ssl-vc text model 2"
G2P_FILE = "letters.safetensors"


class TextModel:
    """Predicts frames of sentences.

    Args:
        acoustic: symbols to rows.
        g2p: words to phones.
        speakers: training speakers.
        mean: of the rows (dim,).
        deviation: standard deviation of the rows (dim,).
        spec: of the query frames.
        reads: features the vocoder reads.
    """

    def __init__(
        self,
        acoustic: AcousticModel,
        g2p: G2PModel,
        speakers: Sequence[Speaker],
        mean: Tensor,
        deviation: Tensor,
        spec: FrameSpec,
        reads: dict[str, Any],
    ) -> None:
        self.acoustic, self.g2p, self.speakers = acoustic.eval(), g2p, list(speakers)
        self.mean, self.deviation, self.spec, self.reads = mean, deviation, spec, reads
        self.rows = RowCodec(spec, reads)
        self.phonemize: Phonemizer = g2p.phonemize

    def to_symbols(self, text: str) -> SymbolSequence:
        """Returns the symbols of a normalised sentence."""
        return to_symbols(text, self.phonemize)

    def generate(
        self, sentence: SymbolSequence, speaker: int = 0, *, melody: float = 1.0, **options: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns query frames, the speaker's own vocoder frames, and the duration of each symbol.

        Args:
            sentence: its symbols.
            speaker: speaker id.
            melody: scale of the log-F0 contour around its median.
            **options: of `AcousticModel.generate`.
        """
        device = self.acoustic.embed.weight.device
        symbols, word_starts = (torch.tensor(part, device=device) for part in sentence[:2])
        rows, durations = self.acoustic.generate(symbols, word_starts, speaker, **options)
        rows = rows.cpu() * self.deviation + self.mean
        rows[:, self.rows.log_f0] *= melody
        query_frames, vocoder_frames = self.rows.decode(rows, self.speakers[speaker])
        return query_frames, vocoder_frames, durations.cpu()

    def save(self, folder: str | Path) -> None:
        """Write the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "format": FORMAT,
            "acoustic": self.acoustic.shape,
            "speakers": [{"name": each.name, "level": each.median_f0} for each in self.speakers],
            "spec": asdict(self.spec),
            "reads": self.reads,
        }
        timbres = torch.stack([each.timbre for each in self.speakers])
        statistics = {"rows.mean": self.mean, "rows.deviation": self.deviation, "rows.timbres": timbres}
        with replacing(folder / "model.safetensors") as part:
            part.write_bytes(save(quantize(self.acoustic.state_dict()) | statistics))
        self.g2p.save(folder / G2P_FILE)
        with replacing(folder / "config.json") as part:
            part.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a folder that `save` wrote."""
        folder = Path(folder)
        try:
            config = read_json(folder / "config.json")
            if config["format"] != FORMAT:
                raise ValueError(f"its format is {config['format']!r}")
            weights = dequantize(load_file(require_file(folder / "model.safetensors")))
            require_finite(weights)
            mean, deviation, timbres = (weights.pop(f"rows.{name}") for name in ("mean", "deviation", "timbres"))
            shape = AcousticConfig(**config["acoustic"])
            acoustic = build(lambda: AcousticModel(shape), rename_layers(weights))
            rows = zip(config["speakers"], timbres, strict=True)
            speakers = [Speaker(each["name"], each["level"], timbre) for each, timbre in rows]
            spec = FrameSpec(**config["spec"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{folder} is not a text model of ssl-vc ({str(error).splitlines()[0]}).") from None
        g2p = G2PModel.load(folder / G2P_FILE)
        return cls(acoustic.requires_grad_(False), g2p, speakers, mean, deviation, spec, config["reads"])


def is_text_model(folder: str | Path) -> bool:
    """Returns whether a folder holds a text model."""
    return (Path(folder) / G2P_FILE).is_file()
