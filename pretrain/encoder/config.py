"""The architecture of an encoder, and the published ones by name."""

from dataclasses import dataclass, fields
from typing import Any, Literal

LARGEST = 2**31 - 1  # of any number in a config
CONTEXT = 64  # frames on both sides of a window of a long clip, after which attention has faded
CHOICES = {
    "frontend": ("conv", "log_mel", "stack"),
    "conv_norm": ("group", "layer"),
    "context": ("transformer", "conformer", "gru", "lstm", "conv"),
    "position": ("conv", "none"),
    "quantiser": ("none", "gumbel", "kmeans"),
}
ONE_WAY = ("gru", "lstm", "conv")  # contexts that have no other direction
LATER = ("context", "causal", "position", "conv_kernel", "quantiser", "codes", "code_groups", "project_norm")
AT_LEAST_ONE = (
    *("codes", "code_groups", "conv_dim", "mel_bins", "dim", "heads", "ffn_dim", "conv_kernel"),
    *("max_distance", "pos_kernel", "pos_groups", "pos_depth"),
)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The architecture of a `SpeechEncoder`. The defaults are HuBERT Base.

    Attributes:
        frontend: `conv` (seven convolutions on the waveform), `log_mel` (log-mel + two convolutions), or `stack`
            (log-mel spectra, two to a frame).
        context: kind of the blocks: `transformer`, `conformer`, `gru`, `lstm`, or `conv` (wav2vec's).
        causal: no frame sees samples after its own 25 ms.
        position: `conv` (a positional convolution) or `none`.
        conv_dim: channels of the front end's convolutions.
        conv_norm: `group` (each channel over time, after the first convolution: Base) or `layer` (every one: Large).
        conv_bias: whether the front end's convolutions have a bias.
        mel_bins: mel bands of the `log_mel` front end.
        quantiser: between the front end and the blocks, which then see nothing but codes (vq-wav2vec): `none`, `gumbel`
            or `kmeans`.
        codes: of each of the quantiser's codebooks.
        code_groups: number of those.
        project_norm: LayerNorm of the features before they are projected to `dim`; without in DistilHuBERT.
        dim: width of the frames.
        depth: number of transformer blocks.
        heads: attention heads.
        ffn_dim: width inside a block's feed-forward part.
        conv_kernel: kernel of a conformer's convolutions, in frames; odd.
        pre_norm: LayerNorm before attention and feed-forward (Large) or after (Base).
        gated_bias: WavLM's gated relative position bias.
        num_buckets: rows of the relative position table.
        max_distance: frames beyond which all distances share a bucket.
        pos_kernel: kernel of the positional convolution, in frames.
        pos_groups: groups of the positional convolution.
        pos_depth: number of positional convolutions, which share `pos_kernel` if there are several (data2vec).
        normalized: scale the input to zero mean and unit variance per utterance (with 1e-5 added to the variance, as in
            the original training; transformers' feature extractor adds 1e-7).
        dropout: after the projection, attention, and feed-forward (training).
        attention_dropout: on attention weights (training).
        activation_dropout: inside the feed-forward part (training).
        layer_drop: probability that a block is skipped (training).
        matching_layer: the recommended layer for matching; None if unknown.
        cepstra: weight of cepstra appended to those frames for matching, see `ssl_vc.features.cepstra`.
    """

    frontend: Literal["conv", "log_mel", "stack"] = "conv"
    context: Literal["transformer", "conformer", "gru", "lstm", "conv"] = "transformer"
    causal: bool = False
    position: Literal["conv", "none"] = "conv"
    conv_dim: int = 512
    conv_norm: Literal["group", "layer"] = "group"
    conv_bias: bool = False
    mel_bins: int = 80
    quantiser: Literal["none", "gumbel", "kmeans"] = "none"
    codes: int = 320
    code_groups: int = 2
    project_norm: bool = True
    dim: int = 768
    depth: int = 12
    heads: int = 12
    ffn_dim: int = 3072
    conv_kernel: int = 31
    pre_norm: bool = False
    gated_bias: bool = False
    num_buckets: int = 320
    max_distance: int = 800
    pos_kernel: int = 128
    pos_groups: int = 16
    pos_depth: int = 1
    normalized: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_drop: float = 0.05
    matching_layer: int | None = None
    cepstra: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            kinds = {float: (int, float), type(None): (int, type(None))}.get(kind, (kind,))
            if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{field.name} is {value!r}; it must be {' or '.join(k.__name__ for k in kinds)}.")
            if isinstance(value, int | float) and not abs(value) <= LARGEST:
                raise ValueError(f"{field.name} is {value}; it must be at most {LARGEST}.")
        for name, possible in CHOICES.items():
            if getattr(self, name) not in possible:
                raise ValueError(f"{name} is {getattr(self, name)!r}; possible are {', '.join(possible)}.")
        for name in AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.num_buckets < 4:
            raise ValueError(f"num_buckets is {self.num_buckets}; it must be at least 4.")
        if self.depth < 0:
            raise ValueError(f"depth is {self.depth}; it must be at least 0.")
        if self.quantiser != "none" and self.feature_dim % self.code_groups:
            raise ValueError(
                f"features of {self.feature_dim} numbers cannot be divided among {self.code_groups} code_groups."
            )
        divisors = {"heads": self.context not in ONE_WAY, "pos_groups": self.position == "conv"}
        for divisor, used in divisors.items():
            if used and self.dim % getattr(self, divisor):
                raise ValueError(f"dim {self.dim} cannot be divided into {divisor} {getattr(self, divisor)}.")
        if self.matching_layer is not None and not 0 <= self.matching_layer <= self.depth:
            raise ValueError(f"matching_layer is {self.matching_layer}; possible are 0 to depth {self.depth}.")
        if not 0 <= self.cepstra <= 100:
            raise ValueError(f"cepstra is {self.cepstra}; possible are 0 (none) to 100.")
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel is {self.conv_kernel}; it must be odd.")
        self._check_causal()

    def _check_causal(self) -> None:
        if self.context in ONE_WAY and not self.causal:
            raise ValueError(f"context {self.context} sees no later frames; set causal to true.")
        blind = self.frontend == "stack" or (self.frontend == "conv" and self.conv_norm == "layer")
        if self.causal and not (blind and self.position == "none" and not self.normalized):
            raise ValueError(
                "causal needs a frontend that sees no later frames (stack, or conv with conv_norm layer), "
                "position none, and normalized false."
            )

    def as_stored(self) -> dict[str, Any]:
        """Return the fields that fingerprints of trainings have: of the later ones only what is not the default."""
        return {
            field.name: value
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default or field.name not in LATER
        }

    @property
    def feature_dim(self) -> int:
        """Dimension of the front end's features."""
        return 2 * self.mel_bins if self.frontend == "stack" else self.conv_dim

    @property
    def context_frames(self) -> int:
        """How many frames on both sides of a window of a long clip are computed with it."""
        position = self.pos_kernel // 2 + 2 if self.position == "conv" else 0
        convolved = self.depth * (self.depth + 1) // 2 if self.context == "conv" else 0
        return max(CONTEXT, position, convolved)

    @classmethod
    def hubert_base(cls, **changes: Any) -> "EncoderConfig":
        """HuBERT Base (Hsu et al. 2021, 2106.07447)."""
        return cls(**changes)

    @classmethod
    def hubert_large(cls, **changes: Any) -> "EncoderConfig":
        """HuBERT Large."""
        return cls(**_LARGE | changes)

    @classmethod
    def wav2vec2_base(cls, **changes: Any) -> "EncoderConfig":
        """wav2vec 2.0 Base (Baevski et al. 2020, 2006.11477): HuBERT Base's shape."""
        return cls(**changes)

    @classmethod
    def wav2vec2_large(cls, **changes: Any) -> "EncoderConfig":
        """wav2vec 2.0 Large as trained on Libri-Light (LV-60), with biased convolutions."""
        return cls(**_LARGE | {"conv_bias": True} | changes)

    @classmethod
    def data2vec_base(cls, **changes: Any) -> "EncoderConfig":
        """data2vec Base for speech (Baevski et al. 2022, 2202.03555)."""
        shape: dict[str, Any] = {"conv_norm": "layer", "normalized": True, "pos_kernel": 95, "pos_depth": 5}
        return cls(**shape | changes)

    @classmethod
    def wavlm_base(cls, **changes: Any) -> "EncoderConfig":
        """WavLM Base and Base+ (Chen et al. 2021, 2110.13900)."""
        return cls(**{"gated_bias": True} | changes)

    @classmethod
    def wavlm_large(cls, **changes: Any) -> "EncoderConfig":
        """WavLM Large. kNN-VC reads layer 6, from the raw waveform: `wavlm_large(normalized=False)`."""
        matching_layer = 6 if changes.get("depth", 24) >= 6 else None
        return cls(**_LARGE | {"gated_bias": True, "matching_layer": matching_layer} | changes)

    @classmethod
    def cpc(cls, **changes: Any) -> "EncoderConfig":
        """CPC (van den Oord et al. 2018, 1807.03748), with the channel norm of Riviere et al. 2020 (2002.02848)."""
        shape: dict[str, Any] = {**_CAUSAL, "context": "gru", "conv_dim": 256, "dim": 256, "depth": 1}
        return cls(**shape | changes)

    @classmethod
    def wav2vec(cls, **changes: Any) -> "EncoderConfig":
        """wav2vec (Schneider et al. 2019, 1904.05862), with a norm over the channels instead of channels and time."""
        return cls(**_CAUSAL | {"context": "conv", "dim": 512} | changes)

    @classmethod
    def tiny(cls, **changes: Any) -> "EncoderConfig":
        """A small encoder for CPUs: log-mel front end, 6 blocks of 256."""
        small: dict[str, Any] = {
            "frontend": "log_mel",
            "conv_dim": 256,
            "dim": 256,
            "depth": 6,
            "heads": 4,
            "ffn_dim": 1024,
        }
        return cls(**small | {"pre_norm": True, "pos_kernel": 32, "pos_groups": 8} | changes)


_LARGE: dict[str, Any] = {
    "conv_norm": "layer",
    "dim": 1024,
    "depth": 24,
    "heads": 16,
    "ffn_dim": 4096,
    "pre_norm": True,
    "normalized": True,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "layer_drop": 0.0,
}
_CAUSAL: dict[str, Any] = {
    "causal": True,
    "position": "none",
    "conv_norm": "layer",
    "dropout": 0.0,
    "layer_drop": 0.0,
}
