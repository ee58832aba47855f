"""A front end without weights: log-mel spectra, two to a frame, the last of which ends with the frame.

So a frame sees no sample after its own 25 ms:

samples    320 t - 160   320 t         320 t + 240   320 t + 400
first      [===========================]
second                   [===========================]
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.encoder.frontend import LogMelFrontend, Moments, log_mel_spectrogram

STEPS = 2  # spectra of 10 ms in a frame of 20 ms


class StackFrontend(nn.Module):
    """Log-mel spectra, stacked; also for methods that predict the spectrum itself."""

    def __init__(self, mel_bins: int) -> None:
        super().__init__()
        self.mel_bins = mel_bins

    def moments(self, wav: Tensor, lengths: Tensor) -> Moments | None:
        """Return None: there is no GroupNorm."""
        return None

    def forward(self, wav: Tensor, lengths: Tensor, moments: Moments | None) -> Tensor:
        """Map (batch, samples) to (batch, frames, 2 * mel_bins); frames beyond a row's length are unspecified."""
        mel = log_mel_spectrogram(F.pad(wav, (LogMelFrontend.STEP, 0)), self.mel_bins)
        return mel[:, : mel.shape[1] // STEPS * STEPS].unflatten(1, (-1, STEPS)).flatten(2)
