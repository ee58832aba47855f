"""WavLM: HuBERT with utterance mixing, of a second speaker or noise into some clips (Chen et al. 2021, 2110.13900).

The labels stay those of the primary speaker, so the encoder learns to follow that one. (WavLM's other half, the gated
relative position bias, is the encoder's: `gated_bias`.) Clips are mixed in training only, not in validation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pretrain.data.batch import Prepared
from pretrain.data.manifest import Samples
from pretrain.data.mixing import mix
from pretrain.objectives.hubert import Hubert, HubertSettings

__all__ = ["Hubert", "WavlmSettings"]


@dataclass(frozen=True, kw_only=True)
class WavlmSettings(HubertSettings):
    """WavLM's settings.

    Attributes:
        mix_probability: of a clip to be mixed.
        noise_probability: of a mixture to be with noise rather than speech: 0 in Base, .1 in Base+ and Large.
        noises: source of noise, set by the pipeline.
    """

    mix_probability: float = 0.2
    noise_probability: float = 0.0
    noises: Callable[[np.random.Generator, int], Samples] | None = field(default=None, repr=False, compare=False)

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> Prepared:
        """Mask spans of each clip, and mix some clips."""
        prepared = super().prepare(wavs, counts, generators, training)
        if training:
            mixed = mix(
                prepared.wavs,
                generators[0],
                probability=self.mix_probability,
                noise_probability=self.noise_probability,
                noises=self.noises,
            )
            return prepared._replace(wavs=mixed)
        return prepared
