"""FrameSpec: what a clip's frames are, so that only frames of the same features meet."""

from dataclasses import asdict, dataclass
from typing import Any

from pretrain.encoder.framing import HOP
from ssl_vc.audio import SAMPLE_RATE


@dataclass(frozen=True)
class FrameSpec:
    """Everything that determines a clip's frames. Frames with different specs must never be mixed.

    Attributes:
        encoder: fingerprint of the encoder up to the layer.
        layer: the layer whose output the frames are.
        normalized: whether the waveform was normalised to zero mean and unit variance first.
        dim: dimensions of a frame.
        sample_rate: of the waveform, in Hz.
        hop_length: samples from one frame to the next.
        cepstra: weight of the cepstra appended to the layer's output, see `ssl_vc.features.cepstra`; 0 for none.
    """

    encoder: str
    layer: int
    normalized: bool
    dim: int
    sample_rate: int = SAMPLE_RATE
    hop_length: int = HOP
    cepstra: float = 0.0

    @property
    def feature_spec(self) -> dict[str, Any]:
        """What these features are, as vocoders check it."""
        spec = {"kind": "ssl", **asdict(self)}
        return spec if self.cepstra else {name: value for name, value in spec.items() if name != "cepstra"}

    def require(self, other: "FrameSpec", what: str) -> None:
        """Refuse `other`, the spec of `what`, if it differs from this one."""
        wanted, found = asdict(self), asdict(other)
        differences = [f"{key} {found[key]} instead of {wanted[key]}" for key in wanted if wanted[key] != found[key]]
        if differences:
            raise ValueError(f"{what} does not fit: it has {', '.join(differences)}. Build it again with this encoder.")
