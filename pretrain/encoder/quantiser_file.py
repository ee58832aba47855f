"""A trained quantiser beside its encoder: `quantiser.safetensors`.

It maps the front end's normalised features, `encoder.feature_norm(encoder.features(wav))`, to codes. Its method's
projections, if it has any, are stored with it.
"""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from pretrain.encoder.quantisers import GumbelQuantiser, KMeansQuantiser
from pretrain.encoder.weights import build, read_weights, require_finite

FILE = "quantiser.safetensors"
PREFIX = "quantiser."
Quantiser = GumbelQuantiser | KMeansQuantiser


def write_quantiser(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write a quantiser's weights, under names that begin with `quantiser.`, and others beside them."""
    stored = {name: value.float().cpu().contiguous() for name, value in weights.items()}
    (folder / FILE).write_bytes(save(stored, {"format": "ssl-vc quantiser 1"}))


def read_quantiser(folder: str | Path) -> Quantiser:
    """Return the quantiser beside an encoder."""
    file = Path(folder) / FILE
    if not file.is_file():
        raise ValueError(f"there is no {FILE} in {folder}; wav2vec 2.0 and vq-wav2vec train a quantiser.")
    try:
        stored = read_weights(file)
        weights = {name.removeprefix(PREFIX): value for name, value in stored.items() if name.startswith(PREFIX)}
        quantiser = _build(weights)
        require_finite(weights)
        return quantiser.eval()
    except (SafetensorError, KeyError, IndexError, ValueError) as error:
        reason = str(error).splitlines()[0].removesuffix(".")
        raise ValueError(f"{file} holds no quantiser: {reason}.") from None


def _build(weights: dict[str, Tensor]) -> Quantiser:
    groups, codes, part = weights["codebooks"].shape
    if "score.0.weight" not in weights:
        return build(lambda: KMeansQuantiser(groups * part, codes=codes, groups=groups), weights)
    dim, depth = weights["score.0.weight"].shape[1], sum(name.endswith(".weight") for name in weights)
    size = {"codes": codes, "groups": groups, "out": groups * part, "depth": depth}
    return build(lambda: GumbelQuantiser(dim, **size), weights)
