"""WavLM: HuBERT that hears a second speaker or noise over some clips (Chen et al. 2021, 2110.13900).

The labels stay those of the clip itself, so the encoder learns who is meant. (WavLM's other half, the gated relative
position bias, is the encoder's: `gated_bias`.) Mixtures are made in learning only, not in validation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pretrain.data.batch import Mask
from pretrain.data.manifest import Samples
from pretrain.data.mixing import mix
from pretrain.objectives.hubert import Hubert, HubertSettings

__all__ = ["Hubert", "WavlmSettings"]


@dataclass(frozen=True)
class WavlmSettings(HubertSettings):
    """How WavLM learns.

    Attributes:
        mix_probability: how many clips are mixed with another.
        noise_probability: how many of the mixtures are with noise instead: 0 in Base, .1 in Base+ and Large.
        noises: gives pieces of noise; set where there is noise to mix with.
    """

    mix_probability: float = 0.2
    noise_probability: float = 0.0
    noises: Callable[[np.random.Generator, int], Samples] | None = field(default=None, repr=False, compare=False)

    def prepare(
        self, wavs: list[Samples], counts: list[int], generators: list[np.random.Generator], training: bool
    ) -> tuple[list[Samples], list[Mask]]:
        """Hide spans of each clip, and mix some."""
        wavs, masks = super().prepare(wavs, counts, generators, training)
        if training:
            wavs = mix(
                wavs,
                generators[0],
                probability=self.mix_probability,
                noise_probability=self.noise_probability,
                noises=self.noises,
            )
        return wavs, masks
