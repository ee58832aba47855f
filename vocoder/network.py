"""What the trained vocoders share: a config saved beside the weights, validation, and streaming.

A frame's samples depend on `context` frames on either side and on nothing else, so a clip generated in windows (see
`vocoder.streaming`) equals the clip generated in one go.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vocoder.excitation import Excitation
from vocoder.protocol import generate_by_length
from vocoder.streaming import Streaming, windows

CORE = 250  # frames, 5 s: longer windows are no faster and need more memory


@dataclass(frozen=True)
class VocoderConfig:
    """The fields of every trained vocoder's config.

    Attributes:
        kind: name of the vocoder, see `vocoder.kinds`.
        dim: size of an input frame.
        sample_rate: of the output, in Hz; the frames may come from speech at another rate.
        reads: the features it was trained on: `kind` and how they were extracted. Only the keys present are checked.
    """

    kind: str = ""
    dim: int = 80
    sample_rate: int = 16_000
    reads: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, list):  # JSON and YAML have no tuples
                value = _as_tuple(value)
                object.__setattr__(self, each.name, value)
            kind = type(each.default)
            if kind in (int, str, bool, tuple) and (
                not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
            ):
                raise ValueError(f"{each.name} is {value!r}; it must be of type {kind.__name__}.")
            if isinstance(value, int) and not isinstance(value, bool) and value < self._minimum(each.name):
                raise ValueError(f"{each.name} is {value}; it must be at least {self._minimum(each.name)}.")

    def _minimum(self, name: str) -> int:
        return 1

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        raise NotImplementedError


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value


class NeuralVocoder(Streaming, nn.Module, PyTorchModelHubMixin, library_name="ssl-vc", tags=["speech", "vocoder"]):
    """A vocoder with weights. Subclasses define `generate`, and `context`: the frames it depends on at either side."""

    context: int
    trains_with_weight_norm = False

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.sample_rate, self.hop_length = config.dim, config.sample_rate, config.hop_length
        self.excitation: Excitation | None = None  # set by `harmonic` vocoders

    @property
    def reads(self) -> dict[str, Any]:
        """The features it was trained on."""
        return self.config.reads

    def generate(self, frames: Tensor) -> Tensor:
        """Map unpadded rows (batch, frames, dim), as returned by `add_phase`, to (batch, frames * hop_length)."""
        raise NotImplementedError

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns waveforms (batch, frames * hop_length) of frames (batch, frames, dim); rows do not interact."""
        return generate_by_length(self, lambda rows: self.generate(self.add_phase(rows)[0]), frames, lengths)

    def add_phase(self, frames: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Append to frames (batch, frames, dim) the excitation's phase, which accumulates over the whole clip.

        Args:
            frames: the next frames of the clip.
            state: as returned for the frames before them; None at the start.

        Returns:
            the frames with their phase, and the state for the next ones.
        """
        return (frames, None) if self.excitation is None else self.excitation.add_phase(frames, state)

    def _vocode(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        for window, start, stop in windows(self._phased(chunks), CORE, self.context):
            parameter = next(self.parameters(), window)
            wav = self.generate(window[None].to(parameter.device))[0].float().cpu()
            yield wav[start * self.hop_length : stop * self.hop_length]

    def _phased(self, chunks: Iterator[Tensor]) -> Iterator[Tensor]:
        state = None
        for chunk in chunks:
            frames, state = self.add_phase(chunk[None], state)
            yield frames[0]

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: VocoderConfig | None = None, map_location: str = "cpu", **hub: Any
    ) -> Self:
        # the mixin's version prints, and accepts files that hold no model
        if config is None:
            raise ValueError(f"{model_id} has no config.json, so it is not a vocoder.")
        try:
            folder, name = Path(model_id), "model.safetensors"
            file = folder / name if folder.is_dir() else hf_hub_download(model_id, name, **hub)
            weights = {key: value.float() for key, value in load_file(file, device=map_location).items()}
            return cls.from_weights(config, weights)
        except (OSError, SafetensorError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{model_id} has no weights that match its config.json: {reason}") from None

    @classmethod
    def from_weights(cls, config: VocoderConfig, weights: dict[str, Tensor]) -> Self:
        """Returns a vocoder with these weights, in evaluation mode."""
        vocoder = cls(config)
        expected = vocoder.state_dict()
        for key in sorted(expected.keys() | weights.keys()):
            found, wanted = (None if key not in of else tuple(of[key].shape) for of in (weights, expected))
            if found != wanted:
                raise ValueError(f"the weight {key} has shape {found}; its config requires {wanted}.")
        vocoder.load_state_dict(weights)
        return vocoder.eval()


def apply_weight_norm(network: nn.Module) -> None:
    """Reparametrize every convolution's weight as direction and norm, for training."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.utils.parametrizations.weight_norm(module)


def remove_weight_norm(network: nn.Module) -> None:
    """Undo `apply_weight_norm`: the same function, with plain weights as they are stored and used."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def same_padding(kernel: int, dilation: int = 1) -> int:
    """Returns the padding that preserves a convolution's length."""
    return (kernel - 1) * dilation // 2
