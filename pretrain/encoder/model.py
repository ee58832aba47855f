"""SpeechEncoder: one class for HuBERT, WavLM, wav2vec 2.0 and so on, and for small encoders on log-mel spectra."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, overload

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from pretrain.encoder import foreign
from pretrain.encoder.config import EncoderConfig
from pretrain.encoder.context import Context
from pretrain.encoder.fingerprint import fingerprint
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD, SAMPLE_RATE, num_frames
from pretrain.encoder.frontend import Moments, Statistics, valid_frames
from pretrain.encoder.kinds import make_frontend, make_quantiser
from pretrain.encoder.to_transformers import write_transformers
from pretrain.encoder.weights import build, read_weights, require_finite

WEIGHTS = "model.safetensors"


class SpeechEncoder(nn.Module, PyTorchModelHubMixin, library_name="ssl-vc", tags=["speech", "ssl"]):
    """Map a 16 kHz waveform to frames of 20 ms, from any of its layers.

    Layer 0 is the context network's input (after the positional convolution), layer n the residual stream after the
    n-th block, without a final norm. Extraction stops at the requested layer.
    """

    sample_rate = SAMPLE_RATE
    hop_length = HOP

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = make_frontend(config)
        self.feature_norm = nn.LayerNorm(config.feature_dim) if config.project_norm else nn.Identity()
        self.quantiser = make_quantiser(config)
        self.project = nn.Linear(config.feature_dim, config.dim)
        self.project_dropout = nn.Dropout(config.dropout)
        self.mask_embedding = nn.Parameter(torch.empty(config.dim).uniform_())
        self.transformer = Context(config)  # of any kind: files know it under this name

    @classmethod
    def from_foreign(cls, source: str | Path, *, normalized: bool | None = None) -> Self:
        """Load a published encoder.

        Args:
            source: see `pretrain.encoder.foreign.read`.
            normalized: whether to normalise the input, if not as the checkpoint says: kNN-VC's vocoders expect
                WavLM-Large on the raw waveform (`normalized=False`).
        """
        config, weights = foreign.read(source)
        if normalized is not None:
            config = replace(config, normalized=normalized)
        try:
            encoder = cls._with_weights(config, weights)
            require_finite(weights)
            return encoder.eval()
        except ValueError as error:
            raise ValueError(f"{source} holds no supported encoder: {error}.") from None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Load a folder or hub id with our `config.json` and `model.safetensors`; see `PyTorchModelHubMixin`."""
        name = pretrained_model_name_or_path
        if Path(name).is_dir() and foreign.is_foreign(name):
            raise ValueError(f"{name} holds a model of transformers; `SpeechEncoder.from_foreign` reads it.")
        return super().from_pretrained(name, **options)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: EncoderConfig | None = None, map_location: str = "cpu", **hub: Any
    ) -> Self:
        # the mixin's own version initialises the encoder first (5 s at WavLM-Large's size), and prints
        if config is None:
            raise ValueError(f"{model_id} holds no config.json, so it is no encoder.")
        try:
            file = Path(model_id, WEIGHTS) if Path(model_id).is_dir() else hf_hub_download(model_id, WEIGHTS, **hub)
            weights = read_weights(file, map_location)
            encoder = cls._with_weights(config, weights)
            require_finite(weights)
            return encoder.eval()
        except (OSError, SafetensorError, ValueError) as error:
            reason = str(error).splitlines()[0].removesuffix(".")
            raise ValueError(f"{model_id} has no weights that fit its config: {reason}.") from None

    def _save_pretrained(self, save_directory: Path) -> None:
        # the mixin's own version writes a file that only its owner can read
        weights = {key: value.contiguous() for key, value in self.state_dict().items()}
        (save_directory / WEIGHTS).write_bytes(save(weights))

    @classmethod
    def _with_weights(cls, config: EncoderConfig, weights: dict[str, Tensor]) -> Self:
        """Build an encoder on existing tensors, without initialising its own."""
        return build(lambda: cls(config), weights, assign=True)

    def first_layers(self, depth: int) -> Self:
        """Return this encoder without the blocks above layer `depth`; weights are shared, not copied."""
        weights = {key: value for key, value in self.state_dict().items() if not key.startswith(self._above(depth))}
        return self._with_weights(replace(self.config, depth=depth, matching_layer=None), weights).train(self.training)

    def with_blocks(self, depth: int) -> Self:
        """Return a copy with untrained blocks added on top, `depth` blocks in all."""
        deeper = type(self)(replace(self.config, depth=depth))
        deeper.load_state_dict({**deeper.state_dict(), **self.state_dict()})
        return deeper.train(self.training)

    def save_transformers(self, folder: str | Path, heads: Mapping[str, Tensor] | None = None) -> None:
        """Write a folder for transformers, with equal outputs; see `pretrain.encoder.to_transformers`."""
        write_transformers(self.config, self.state_dict(), folder, heads)

    @overload
    @staticmethod
    def num_frames(num_samples: int) -> int: ...
    @overload
    @staticmethod
    def num_frames(num_samples: Tensor) -> Tensor: ...
    @staticmethod
    def num_frames(num_samples: int | Tensor) -> int | Tensor:
        """Count the frames of a clip: 0 below 400 samples, 49 for one second."""
        if isinstance(num_samples, Tensor):
            return ((num_samples - RECEPTIVE_FIELD) // HOP + 1).clamp(min=0)
        return num_frames(num_samples)

    def statistics(self, wav: Tensor, lengths: Tensor | None = None) -> Statistics:
        """Return statistics of whole utterances (batch, samples), to process windows of them later; see `layers`."""
        lengths = self._lengths(wav, lengths)
        shift = torch.zeros(len(wav), 1, device=wav.device)
        scale = torch.ones_like(shift)
        moments = self.frontend.moments(wav, lengths)
        if self.config.normalized:
            for row, length in enumerate(lengths.tolist()):
                utterance = wav[row, : int(length)]
                shift[row] = utterance.mean()
                scale[row] = torch.rsqrt(utterance.var(correction=0) + 1e-5)
            if moments is not None:
                covariance = moments.covariance * scale[:, :, None].square()
                moments = Moments((moments.mean - shift) * scale, covariance)
        return Statistics(shift, scale, moments)

    def features(self, wav: Tensor, lengths: Tensor | None = None, statistics: Statistics | None = None) -> Tensor:
        """Map (batch, samples) to front-end features (batch, frames, feature_dim)."""
        lengths = self._lengths(wav, lengths)
        if statistics is None:
            statistics = self.statistics(wav, lengths)
        if self.config.normalized:
            wav = (wav - statistics.shift) * statistics.scale
        return self.frontend(wav, lengths, statistics.moments)

    def encode(
        self,
        features: Tensor,
        counts: Tensor | None = None,
        mask: Tensor | None = None,
        upto: int | None = None,
        *,
        chunk: int | None = None,
    ) -> list[Tensor]:
        """Map the front end's features to layers 0 .. `upto`, each (batch, frames, dim).

        Args:
            features: (batch, frames, feature_dim).
            counts: how many frames of each row are real (batch,); all if None.
            mask: (batch, frames), True where the mask embedding takes the frame's place (pretraining).
            upto: the last layer to compute; all if None.
            chunk: limits the lookahead to chunks of so many frames; unlimited if None.
        """
        return self.contextualise(self.embed(features, mask), counts, upto, chunk=chunk)

    def embed(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Project the front end's features to the transformer's input (batch, frames, dim); see `encode`."""
        if features.dtype == torch.float32:  # a front end without weights knows no other
            features = features.to(self.project.weight.dtype)
        x = self.feature_norm(features)
        if self.quantiser is not None:
            x = self.quantiser.vectors(
                self.quantiser.codes(x)
            ).detach()  # how codes are learnt is an objective's matter
        x = self.project_dropout(self.project(x))
        return x if mask is None else self.masked(x, mask)

    def masked(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return the transformer's input with the mask embedding where `mask` (batch, frames) is True."""
        return torch.where(mask[:, :, None], self.mask_embedding.to(x.dtype), x)

    def contextualise(
        self,
        x: Tensor,
        counts: Tensor | None = None,
        upto: int | None = None,
        *,
        chunk: int | None = None,
        inner: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """Map the transformer's input to layers 0 .. `upto`; see `encode`.

        Args:
            x: (batch, frames, dim).
            counts: see `encode`.
            upto: see `encode`.
            chunk: see `encode`.
            inner: a list that gets the feed-forward output of each block, before it is added to the residual stream.
        """
        total = x.shape[1]
        real = None if counts is None or bool((counts >= total).all()) else valid_frames(counts, total)
        return self.transformer(x, real, self._layer(upto), chunk, inner)

    def layers(
        self,
        wav: Tensor,
        lengths: Tensor | None = None,
        upto: int | None = None,
        *,
        mask: Tensor | None = None,
        statistics: Statistics | None = None,
    ) -> list[Tensor]:
        """Return layers 0 .. `upto` of a batch.

        A row's frames do not depend on its padding or on the other rows.

        Args:
            wav: (batch, samples) at 16 kHz, padded at the end.
            lengths: the true samples of each row (batch,); all if None.
            upto: the last layer to compute; all if None.
            mask: (batch, frames), True where the mask embedding takes the frame's place (pretraining).
            statistics: of the whole utterances, where `wav` holds windows of them.

        Returns:
            `upto + 1` tensors (batch, frames, dim); only the first `num_frames(lengths)` of a row are valid.
        """
        upto = self._layer(upto)  # fail before the front end runs
        features = self.features(wav, lengths, statistics)
        counts = None if lengths is None else self.num_frames(lengths.to(wav.device))
        return self.encode(features, counts, mask, upto)

    def forward(
        self,
        wav: Tensor,
        lengths: Tensor | None = None,
        layer: int | None = None,
        *,
        mask: Tensor | None = None,
        statistics: Statistics | None = None,
    ) -> Tensor:
        """Return one layer (batch, frames, dim), or without `layer` the output: the last, normalised if `pre_norm`."""
        layers = self.layers(wav, lengths, layer, mask=mask, statistics=statistics)
        return (self.normalise_last(layers) if layer is None else layers)[-1]

    def normalise_last(self, layers: list[Tensor]) -> list[Tensor]:
        """Return all layers, the last one normalised if the encoder is pre-norm."""
        return [*layers[:-1], self.transformer.norm(layers[-1])] if self.config.pre_norm else layers

    def fingerprint(self, layer: int) -> str:
        """Return 16 hex digits that identify layer `layer`: a hash of the architecture and the weights up to there.

        It is the same for every copy of the weights, as long as float32 holds the same values. Files store it, so it
        must not change between versions: a new field of the config may enter only where it differs from its default.
        """
        unused = (*self._above(layer), "mask_embedding", *(("transformer.norm.",) if self.config.pre_norm else ()))
        weights = {key: value for key, value in self.state_dict().items() if not key.startswith(unused)}
        return fingerprint(self.config, weights)

    def _above(self, layer: int) -> tuple[str, ...]:
        """Return the prefixes of the weights above a layer."""
        return tuple(f"transformer.blocks.{n}." for n in range(self._layer(layer), self.config.depth))

    def _layer(self, layer: int | None) -> int:
        if layer is None:
            return self.config.depth
        if not 0 <= layer <= self.config.depth:
            raise ValueError(f"layer is {layer}; this encoder has layers 0 to {self.config.depth}.")
        return layer

    def _lengths(self, wav: Tensor, lengths: Tensor | None) -> Tensor:
        if wav.ndim != 2:
            raise ValueError(f"wav has shape {tuple(wav.shape)}; it must be (batch, samples).")
        if lengths is None:
            lengths = torch.full((len(wav),), wav.shape[1], device=wav.device)
        if lengths.shape != (len(wav),):
            raise ValueError(f"lengths has shape {tuple(lengths.shape)}; a batch of {len(wav)} needs ({len(wav)},).")
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest < RECEPTIVE_FIELD:
            raise ValueError(f"a clip of {shortest} samples is too short; one frame needs {RECEPTIVE_FIELD} (25 ms).")
        if longest > wav.shape[1]:
            raise ValueError(f"lengths holds {longest}, but wav has only {wav.shape[1]} samples.")
        return lengths.to(wav.device)
