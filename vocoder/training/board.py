"""What a training shows in TensorBoard: numbers, sound, and pictures of it."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from vocoder.mel import Mel, MelConfig


class Board:
    """Writes into a folder that TensorBoard reads.

    Args:
        folder: where.
        step: that the training goes on from; what was written of later steps is forgotten.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=step)

    def scalars(self, step: int, values: dict[str, float], group: str) -> None:
        """Write numbers."""
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)
        self.writer.flush()

    def sound(self, step: int, name: str, real: Tensor, made: Tensor, sample_rate: int) -> None:
        """Write both sounds (samples,), and their log-mel spectrograms one above the other."""
        mel = Mel(MelConfig(sample_rate, 1024, 256))
        pictures = []
        for kind, wav in (("real", real), ("made", made)):
            wav = wav.float().cpu().clamp(-1, 1)
            self.writer.add_audio(f"{kind}/{name}", wav, step, sample_rate=sample_rate)
            pictures.append(mel(wav[None])[0].T.flip(0))
        picture = torch.cat(pictures)
        low, high = float(picture.max()) - 10.0, float(picture.max())
        self.writer.add_image(f"mel/{name}", ((picture - low) / (high - low + 1e-9)).clamp(0, 1)[None], step)

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()
