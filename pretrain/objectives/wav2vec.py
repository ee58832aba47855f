"""wav2vec: later front-end frames told from others of the same clip, one by one (Schneider et al., 2019, 1904.05862).

    loss = - sum_k log sigma(z_t+k . h_k(c_t)) - sum over negatives z~ of log sigma(- z~ . h_k(c_t))

Each step k has an affine h_k, and the first step is the first frame that shares no sample with t.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.data.batch import Batch
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD
from pretrain.encoder.frontend import valid_frames
from pretrain.objectives.contrast import sample_negatives
from pretrain.objectives.future import FutureSettings, count_predicting, future_frames
from pretrain.objectives.protocol import Objective, ObjectiveOutput

FIRST = -(-RECEPTIVE_FIELD // HOP)  # the next frame that shares no sample


@dataclass(frozen=True, kw_only=True)
class Wav2VecSettings(FutureSettings):
    """wav2vec's settings; its negatives are others for each step."""


class Wav2Vec(Objective):
    """The predictors and loss of wav2vec; see `Objective` for the arguments."""

    settings: Wav2VecSettings

    def add_heads(self, encoder: SpeechEncoder) -> None:
        """Create the loss weights, and the modules that are trained beside the encoder."""
        self.weights = {"contrastive": 1.0}
        self.predict = nn.Linear(encoder.config.dim, self.settings.steps * encoder.config.feature_dim)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Count the scores of true frames and negatives."""
        predictions = count_predicting(batch.counts, self.settings.steps, FIRST) * self.settings.steps
        return {"contrastive": predictions * (1 + self.settings.negatives)}

    def forward(self, encoder: SpeechEncoder, batch: Batch, progress: float = 0.0) -> ObjectiveOutput:
        """Tell later frames from others of the same clip."""
        features = encoder.features(batch.wav, batch.lengths)
        layers = encoder.encode(features, batch.counts)
        real = valid_frames(batch.counts, features.shape[1])
        loss, right = self.contrast(layers[-1][real], features[real], batch.counts)
        return ObjectiveOutput({"contrastive": loss}, {"right": right}, layers)

    def contrast(self, context: Tensor, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the summed loss and, in one tensor, how many true frames score best and how many there are.

        Args:
            context: the blocks' output, of all clips without padding (frames, dim).
            frames: what is predicted (frames, feature_dim).
            counts: frames of each clip (clips,).
        """
        position, ahead = future_frames(counts, self.settings.steps, FIRST)
        true, false = self.scores(context[position], frames, ahead, self._negatives(counts)[position])
        loss = -(F.logsigmoid(true).sum() + F.logsigmoid(-false).sum())
        right = (true[:, :, None] > false).all(-1).sum()
        return loss, torch.stack([right, right.new_tensor(true.numel())])

    def _negatives(self, counts: Tensor) -> Tensor:
        """Return other frames of the same clip for each frame and step (frames, steps, number)."""
        steps, number = self.settings.steps, self.settings.negatives
        return sample_negatives(counts, steps * number).unflatten(1, (steps, number))

    def scores(self, context: Tensor, frames: Tensor, ahead: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores of true frames (predicting, steps), and of negatives (predicting, steps, number).

        Args:
            context: the blocks' output where something is predicted (predicting, dim).
            frames: what is predicted (frames, feature_dim).
            ahead: indices of the true frames (predicting, steps).
            negatives: indices of others (predicting, steps, number).
        """
        predictions = self.predict(context).unflatten(1, (self.settings.steps, -1)).float()
        with torch.autocast(context.device.type, enabled=False):
            frames = frames.float()
            true = torch.einsum("pkd,pkd->pk", predictions, frames[ahead])
            return true, torch.einsum("pkd,pknd->pkn", predictions, frames[negatives])

    def metrics(self, stats: Mapping[str, Tensor]) -> dict[str, float]:
        """Return how often the later frame has the highest score."""
        right, count = stats["right"].tolist()
        return {"accuracy": right / max(count, 1)}
