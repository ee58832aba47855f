"""What the trained vocoders share: a config saved beside the weights, validation, and streaming.

A frame's samples depend on `context` frames on either side and on nothing else, so a clip generated in windows (see
`vocoder.streaming`) equals the clip generated in one go.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vocoder.excitation import Excitation
from vocoder.files import read_json
from vocoder.protocol import generate_by_length
from vocoder.streaming import Streaming, windows
from vocoder.weights import build, read_weights, require_finite

WEIGHTS = "model.safetensors"
LARGEST = 2**31 - 1  # of any number in a config
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
            least = self._minimum(each.name)
            if isinstance(value, int) and not isinstance(value, bool) and not least <= value <= LARGEST:
                raise ValueError(f"{each.name} is {value}; it must be at least {least}, and at most {LARGEST}.")
            if isinstance(value, tuple) and not _is_like(value, each.default):
                raise ValueError(f"{each.name} is {value!r}; it must be nested as {each.default!r}, of whole numbers.")
        if not isinstance(self.reads, dict):
            raise ValueError(f"reads is {self.reads!r}; it must be an object that says what the frames are.")

    def _minimum(self, name: str) -> int:
        return 1

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        raise NotImplementedError


def _is_like(value: Any, example: Any) -> bool:
    """Return whether tuples of any length are nested as in an example, and hold numbers of at least 1."""
    if isinstance(example, tuple):
        return isinstance(value, tuple) and all(_is_like(item, example[0]) for item in value)
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


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
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a folder or hub id with our `config.json` and `model.safetensors`; see `PyTorchModelHubMixin`."""
        config = Path(pretrained_model_name_or_path, "config.json")
        if os.path.lexists(config):
            read_json(config)  # the mixin's version takes whatever it is
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: VocoderConfig | None = None, map_location: str = "cpu", **hub: Any
    ) -> Self:
        # the mixin's version prints, and accepts files that hold no model
        if config is None:
            raise ValueError(f"{model_id} has no config.json, so it is not a vocoder.")
        try:
            folder = Path(model_id)
            file = folder / WEIGHTS if folder.is_dir() else hf_hub_download(model_id, WEIGHTS, **hub)
            return cls.from_weights(config, read_weights(file, map_location))
        except (OSError, SafetensorError, ValueError) as error:
            reason = str(error).splitlines()[0].removesuffix(".")
            raise ValueError(f"{model_id} has no weights that match its config.json: {reason}.") from None

    def _save_pretrained(self, save_directory: Path) -> None:
        # the mixin's version writes a file that only its owner can read
        weights = {key: value.contiguous() for key, value in self.state_dict().items()}
        (save_directory / WEIGHTS).write_bytes(save(weights))

    @classmethod
    def from_weights(cls, config: VocoderConfig, weights: dict[str, Tensor]) -> Self:
        """Returns a vocoder with these weights, in evaluation mode."""
        vocoder = build(lambda: cls(config), weights)
        require_finite(weights)
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
