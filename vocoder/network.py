"""What the trained vocoders have in common: a config on disk beside the weights, checks, and long sound in pieces.

A frame's sound depends on `context` frames on either side and on nothing else, so long clips are made in windows; each
gives the sound of its core, and is exactly the same as if the clip had been made in one piece:

    window 1   |======= core 1 =======|-context-|
    window 2              |-context-|======= core 2 =======|-context-|
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vocoder.excitation import Excitation
from vocoder.protocol import by_row

CORE = 250  # frames, 5 s: longer windows are no faster, and hold more memory


@dataclass(frozen=True)
class VocoderConfig:
    """What every trained vocoder's config holds.

    Attributes:
        kind: which vocoder it is.
        dim: numbers in a frame that it reads.
        sample_rate: of the sound it makes, in Hz; frames need not come from sound of the same rate.
        reads: the features it was trained on: `kind` and whatever made them. Only what stands here is checked.
    """

    kind: str = ""
    dim: int = 80
    sample_rate: int = 16_000
    reads: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, list):  # as JSON and YAML say it
                value = _as_tuple(value)
                object.__setattr__(self, each.name, value)
            kind = type(each.default)
            if kind in (int, str, bool, tuple) and (
                not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
            ):
                raise ValueError(f"{each.name} is {value!r}; it must be of the kind {kind.__name__}.")
            if isinstance(value, int) and not isinstance(value, bool) and value < self._least(each.name):
                raise ValueError(f"{each.name} is {value}; it must be at least {self._least(each.name)}.")

    def _least(self, name: str) -> int:
        return 1

    @property
    def hop_length(self) -> int:
        """Samples that a frame becomes."""
        raise NotImplementedError


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(item) for item in value) if isinstance(value, list | tuple) else value


class NeuralVocoder(nn.Module, PyTorchModelHubMixin, library_name="ssl-vc", tags=["speech", "vocoder"]):
    """A vocoder with weights. A kind of it says how whole rows are generated, and how far a frame's sound reaches."""

    context: int  # frames
    trains_with_weight_norm = False

    def __init__(self, config: VocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.dim, self.sample_rate, self.hop_length = config.dim, config.sample_rate, config.hop_length
        self.excitation: Excitation | None = None  # of a kind that is `harmonic`

    @property
    def reads(self) -> dict[str, Any]:
        """The features it was trained on."""
        return self.config.reads

    def generate(self, frames: Tensor) -> Tensor:
        """Map whole rows (batch, frames, dim), as `mark` gives them, to (batch, frames * hop)."""
        raise NotImplementedError

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Give the wav (batch, frames * hop) of frames (batch, frames, dim); each row is as if it had been alone."""
        return by_row(self, lambda rows: self.generate(self.mark(rows)[0]), frames, lengths)

    def mark(self, frames: Tensor, before: Any = None) -> tuple[Tensor, Any]:
        """Put behind frames (batch, frames, dim) what `generate` must know of those before them.

        Args:
            frames: the next ones.
            before: what was given with those before them; None at the begin.

        Returns:
            the frames, and what is to be given with the next ones.
        """
        return (frames, None) if self.excitation is None else self.excitation.mark(frames, before)

    @torch.no_grad()
    def stream(self, pieces: Iterable[Tensor]) -> Iterator[Tensor]:
        """Give a clip's sound piece by piece, in bounded memory.

        Args:
            pieces: the clip's frames in order, (some frames, dim) each; a tensor of all of them is one piece.

        Yields:
            wav (samples,), together exactly frames * hop.
        """
        held, mark = None, None
        before = 0  # frames at the head of what is held whose sound was given already
        for piece in [pieces] if isinstance(pieces, Tensor) else pieces:
            if piece.ndim != 2 or piece.shape[1] != self.dim:
                raise ValueError(f"the frames have shape {tuple(piece.shape)}; a clip's are (frames, {self.dim}).")
            if not len(piece):
                continue
            marked, mark = self.mark(piece[None], mark)
            held = marked[0] if held is None else torch.cat([held.to(piece.device), marked[0]])
            while len(held) >= before + CORE + self.context:
                yield self._core(held[: before + CORE + self.context], before, before + CORE)
                drop = max(before + CORE - self.context, 0)
                held, before = held[drop:], before + CORE - drop
        if held is not None and len(held) > before:
            yield self._core(held, before, len(held))

    def _core(self, window: Tensor, start: int, stop: int) -> Tensor:
        here = next(self.parameters(), window)
        wav = self.generate(window[None].to(here.device))[0].float().cpu()
        return wav[start * self.hop_length : stop * self.hop_length]

    def synthesize(self, frames: Tensor) -> Tensor:
        """Give the wav (frames * hop,) of one clip's frames (frames, dim) of any length."""
        if not len(frames):
            raise ValueError("the clip has no frames; give at least one.")
        return torch.cat(list(self.stream(frames)))

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: VocoderConfig | None = None, map_location: str = "cpu", **hub: Any
    ) -> Self:
        # the mixin's own way prints, and takes a wrong file for a model
        if config is None:
            raise ValueError(f"{model_id} holds no config.json, so it is no vocoder.")
        try:
            folder, name = Path(model_id), "model.safetensors"
            file = folder / name if folder.is_dir() else hf_hub_download(model_id, name, **hub)
            weights = {key: value.float() for key, value in load_file(file, device=map_location).items()}
            return cls.holding(config, weights)
        except (OSError, SafetensorError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{model_id} holds no weights of the vocoder it describes: {reason}") from None

    @classmethod
    def holding(cls, config: VocoderConfig, weights: dict[str, Tensor]) -> Self:
        """Make a vocoder with these weights, ready for use."""
        vocoder = cls(config)
        wanted = vocoder.state_dict()
        for key in sorted(wanted.keys() | weights.keys()):
            has, wants = (None if key not in of else tuple(of[key].shape) for of in (weights, wanted))
            if has != wants:
                raise ValueError(f"the weight {key} has the shape {has}; by its config it should be {wants}.")
        vocoder.load_state_dict(weights)
        return vocoder.eval()


def weight_norm(network: nn.Module) -> None:
    """Split every convolution's weight into direction and length, as these networks are trained."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            nn.utils.parametrizations.weight_norm(module)


def fold(network: nn.Module) -> None:
    """Undo `weight_norm`: the same function, and the weights as they are stored and used."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")


def same_padding(kernel: int, dilation: int = 1) -> int:
    """Give the padding that keeps a convolution's length."""
    return (kernel - 1) * dilation // 2
