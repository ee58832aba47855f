"""Log-mel spectra in place of an encoder's frames: what matching comes to without any self-supervised learning."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pretrain.probing.heard import BANDS, log_mel
from ssl_vc.device import choose_device
from ssl_vc.features.extractor import Extractor, FrameSpec


class MelExtractor(Extractor):
    """Gives log-mel spectra (frames, BANDS) in dB, each without its mean, so that cosines compare shapes, not levels.

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
