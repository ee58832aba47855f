"""BEST-RQ: masked prediction of the codes of a quantiser that is never trained (Chiu et al., 2022, arXiv 2202.01855).

Each frame's log-mel spectra, stacked, are projected by a random matrix; the label is the nearest of random codes on the
sphere. Spans of the input spectrum are replaced by noise, and the encoder predicts the labels there. Several quantisers
may serve at once (as in NEST: Huang et al., 2024, arXiv 2408.13106), with a softmax each.

    spectrum --> normalised over time --> random projection --> nearest code = label
        `------> noise over spans --> encoder --> softmax

Front ends on the waveform have no spectrum to replace: there the mask embedding is used, as in HuBERT.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.frontend import LogMelFrontend, log_mel_spectrogram, valid_frames
from pretrain.encoder.quantisers import RandomProjectionQuantiser
from pretrain.objectives.hubert import perplexity
from pretrain.objectives.masking import MaskSettings
from pretrain.objectives.protocol import Objective, ObjectiveOutput

STEPS = 2  # spectra of 10 ms in a frame of 20 ms
LABEL_BANDS = 80


@dataclass(frozen=True, kw_only=True)
class BestRqSettings(MaskSettings):
    """BEST-RQ's settings.

    Attributes:
        mask_probability: see `MaskSettings`; spans begin at 1 % of the steps of 10 ms.
        mask_length: frames in a span: 400 ms.
        codes: of each quantiser.
        books: number of quantisers.
        code_dim: that spectra are projected to.
        noise: standard deviation of what replaces the spectrum.
    """

    mask_probability: float = 0.4
    mask_length: int = 20
    codes: int = 8192
    books: int = 1
    code_dim: int = 16
    noise: float = 0.1
    needs_labels: ClassVar[bool] = False


class BestRq(Objective):
    """BEST-RQ's quantiser and softmax layers; see `Objective` for the arguments."""

    settings: BestRqSettings

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        self.weights = {"masked": 1.0}
        self.quantiser = RandomProjectionQuantiser(
            STEPS * LABEL_BANDS, codes=self.settings.codes, books=self.settings.books, code_dim=self.settings.code_dim
        )
        self.predict = nn.Linear(encoder.config.dim, self.settings.books * self.settings.codes)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count masked frames."""
        return {"masked": int(batch.mask.sum())}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Predict the labels of the masked frames."""
        spectrum = log_mel_spectrogram(batch.wav, LABEL_BANDS)
        labels = self.labels(spectrum, batch)
        if isinstance(encoder.frontend, LogMelFrontend):
            mel = spectrum if encoder.frontend.mel_bins == LABEL_BANDS else encoder.frontend.log_mel(batch.wav)
            hidden = F.pad(batch.mask.repeat_interleave(STEPS, 1), (0, mel.shape[1] - STEPS * batch.mask.shape[1]))
            mel = torch.where(hidden[:, :, None], self.settings.noise * torch.randn_like(mel), mel)
            features, mask = encoder.frontend.convolve(mel, batch.lengths), None
        else:
            features, mask = encoder.features(batch.wav, batch.lengths), batch.mask
        layers = encoder.normalise_last(encoder.encode(features, batch.counts, mask))
        logits = rearrange(
            self.predict(layers[-1][batch.mask]),
            "frames (books codes) -> frames codes books",
            books=self.settings.books,
        ).float()
        targets = labels[batch.mask]
        loss = F.cross_entropy(logits, targets, reduction="sum") / self.settings.books
        right = (logits.detach().argmax(1) == targets).sum()
        stats = {"right": torch.stack([right, right.new_tensor(targets.numel())])}
        if not self.training:
            real = valid_frames(batch.counts, labels.shape[1])
            stats["labels"] = torch.bincount(labels[real][:, 0], minlength=self.settings.codes)
        return ObjectiveOutput({"masked": loss}, stats, layers)

    @torch.no_grad()
    def labels(self, mel: Tensor, batch: Batch) -> Tensor:
        """Return the labels (batch, frames, books) of spectra, which are normalised over each clip."""
        steps = (batch.lengths - LogMelFrontend.WINDOW) // LogMelFrontend.STEP + 1
        # a clip may end before the second spectrum of its last frame, which is then the first one again
        chosen = torch.arange(STEPS * batch.mask.shape[1], device=mel.device).minimum(steps[:, None] - 1)
        stacked = mel.gather(1, chosen[:, :, None].expand(-1, -1, mel.shape[2]))
        frames = rearrange(stacked, "batch (time step) band -> batch time (step band)", step=STEPS)
        real = valid_frames(batch.counts, frames.shape[1])[:, :, None]
        count = batch.counts[:, None, None]
        mean = (frames * real).sum(1, keepdim=True) / count
        deviation = (((frames - mean) * real).square().sum(1, keepdim=True) / count).sqrt().clamp(min=1e-5)
        return self.quantiser((frames - mean) / deviation)

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the accuracy, and the effective number of labels."""
        right, count = stats["right"].tolist()
        metrics = {"accuracy": right / max(count, 1)}
        return metrics | ({"label_perplexity": perplexity(stats["labels"])} if "labels" in stats else {})
