"""Log-mel spectra in place of an encoder's frames: a baseline without self-supervised learning."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pretrain.probing.probe_features import BANDS, log_mel
from ssl_vc.device import choose_device
from ssl_vc.features.extractor import Extractor, FrameSpec


class MelExtractor(Extractor):
    """Extracts log-mel spectra (frames, BANDS) in dB, each less its mean, so cosines compare shapes, not levels.

    Args:
        device: auto, cpu, cuda, cuda:1 ... or mps.
    """

    def __init__(self, device: str = "auto") -> None:
        self.device, self.dtype = choose_device(device), torch.float32
        self.spec = FrameSpec("log-mel", 0, normalized=False, dim=BANDS)

    @torch.no_grad()
    def _pieces(self, clips: Iterable[Tensor]) -> Iterator[tuple[int, Tensor]]:
        for index, wav in enumerate(clips):
            spectrum = log_mel(wav.to(self.device))
            yield index, (spectrum - spectrum.mean(1, keepdim=True)).cpu()
