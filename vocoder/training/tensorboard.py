"""TensorBoard logs of a training: losses, audio and spectrograms."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from vocoder.mel import Mel, MelConfig


class TensorBoard:
    """Writes a TensorBoard log.

    Args:
        folder: of the log.
        step: at which training resumes; what was logged for later steps is discarded.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.writer = SummaryWriter(str(folder), purge_step=step)

    def add_scalars(self, step: int, values: dict[str, float], group: str) -> None:
        """Log numbers."""
        for name, value in values.items():
            self.writer.add_scalar(f"{group}/{name}", value, step)
        self.writer.flush()

    def add_audio(self, step: int, name: str, real: Tensor, generated: Tensor, sample_rate: int) -> None:
        """Log two waveforms (samples,), and their log-mel spectrograms one above the other."""
        mel = Mel(MelConfig(sample_rate, 1024, 256))
        spectrograms = []
        for kind, wav in (("real", real), ("generated", generated)):
            wav = wav.float().cpu().clamp(-1, 1)
            self.writer.add_audio(f"{kind}/{name}", wav, step, sample_rate=sample_rate)
            spectrograms.append(mel(wav[None])[0].T.flip(0))
        image = torch.cat(spectrograms)
        low, high = float(image.max()) - 10.0, float(image.max())
        self.writer.add_image(f"mel/{name}", ((image - low) / (high - low + 1e-9)).clamp(0, 1)[None], step)

    def close(self) -> None:
        """Flush and close the log."""
        self.writer.close()
