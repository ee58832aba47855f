"""The discriminators against those of HiFi-GAN (kNN-VC) and Vocos, and their properties."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vocoder.training.discriminators import (
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    MultiScaleDiscriminator,
    discriminate,
    load_published,
)
from vocoder.training.losses import ADVERSARIAL, feature_matching

GOLDEN = Path(__file__).parents[2] / "golden"
SLIM = {
    "mpd": lambda: MultiPeriodDiscriminator(channels=(16, 32, 64, 128, 128)),
    "msd": lambda: MultiScaleDiscriminator(channels=(16, 16, 32, 64, 128, 128, 128)),
    "mrd": lambda: MultiResolutionDiscriminator(channels=8, fft_sizes=(512, 256, 128)),
}
WHOLE = {"mpd": MultiPeriodDiscriminator, "msd": MultiScaleDiscriminator, "mrd": MultiResolutionDiscriminator}
SMALL = {
    "mpd": lambda: MultiPeriodDiscriminator(channels=(2, 8, 32, 64, 64)),
    "msd": lambda: MultiScaleDiscriminator(channels=(16, 16, 32, 64, 128, 128, 128)),
}
VOCOS = {"mpd": lambda: MultiPeriodDiscriminator(first_map=False), "mrd": MultiResolutionDiscriminator}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


def published_names(discriminator):
    """The state dict under the names of torch's old norms."""
    endings = {"0._u": "u", "0._v": "v", "original": "orig", "original0": "g", "original1": "v"}
    for key, value in discriminator.state_dict().items():
        part, _, ending = key.partition("parametrizations.weight.")
        yield (f"{part}weight_{endings[ending]}" if ending else key), value


def hash_fill(shapes, seed, stored):
    """The weights of the golden files that are too large to store, by the recipe in their notes.

    What is `stored` is taken as it is, and is not counted.
    """
    weights = dict(stored)
    for k, key in enumerate(sorted(shapes.keys() - stored.keys())):
        shape = shapes[key]
        x = np.arange(1, np.prod(shape) + 1, dtype=np.uint32)
        x += np.uint32(0x9E3779B9 * (k + 1 + 1000 * seed) % 2**32)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x ^= x >> np.uint32(shift)
            x *= np.uint32(factor)
        x ^= x >> np.uint32(16)
        u = x * 2.0**-31 - 1.0
        if key.endswith("bias"):
            u *= 0.1
        elif key.endswith("weight_g"):
            u = 1.4 + 0.2 * u
        else:
            u *= np.sqrt(3.0 / np.prod(shape[1:]))
        weights[key] = torch.from_numpy(u.astype(np.float32).reshape(shape))
    return weights


def filled(discriminator, case, kind):
    """Load the weights of a golden case, stored or generated."""
    shapes = {key: tuple(value.shape) for key, value in published_names(discriminator)}
    prefixes = (f"{kind}.", f"{kind}_sn.")
    stored = {
        key.removeprefix(prefix): value
        for key, value in case.weights.items()
        for prefix in prefixes
        if key.startswith(prefix)
    }
    load_published(discriminator, hash_fill(shapes, case.config["seed"], stored))
    return discriminator.eval()


def assert_close(ours, golden, tolerance, what):
    excess = (ours - golden).abs() - tolerance["rtol"] * golden.abs()
    print(f"{what}: largest difference {(ours - golden).abs().max():.1e}")  # pytest -rP shows it
    assert ours.shape == golden.shape, what
    assert excess.max() <= tolerance["atol"], what


def assert_parity(case, tolerance, kind, outputs, game, matching_weight):
    """Compare scores, maps and losses of (real, fake) with the golden ones."""
    for side, side_outputs in zip(("real", "fake"), outputs, strict=True):
        golden = {
            key.removeprefix(f"{kind}.{side}."): value
            for key, value in case.output.items()
            if key.startswith(f"{kind}.{side}.")
        }
        assert len(side_outputs) == sum(key.startswith("score") for key in golden)
        for n, (score, maps) in enumerate(side_outputs):
            what = f"{kind} {n} {side}"
            assert_close(score, golden[f"score{n}"].flatten(1), tolerance, what)
            shapes = [(*layer.shape, 1)[:4] for layer in maps]
            assert shapes == [tuple(shape) for shape in golden[f"fmap_shapes{n}"].tolist()]
            stats = torch.stack([torch.stack([x.mean(), x.abs().mean(), x.square().mean()]) for x in maps])
            assert_close(stats, golden[f"fmap_stats{n}"], tolerance, what)
            places = [np.floor(np.linspace(0, layer.numel() - 1, 32)).astype(int) for layer in maps]
            samples = torch.stack([layer.flatten()[place] for layer, place in zip(maps, places, strict=True)])
            assert_close(samples, golden[f"fmap_samples{n}"], tolerance, what)
    real, fake = outputs
    losses = {
        "feature": matching_weight * feature_matching(real, fake),
        "discriminator": ADVERSARIAL[game].discriminator(real, fake),
        "generator": ADVERSARIAL[game].generator(fake),
    }
    for name, loss in losses.items():
        assert_close(loss, case.output[f"loss.{kind}.{name}"].squeeze(), tolerance, f"{kind} {name} loss")


@pytest.mark.parametrize(
    ("name", "shapes", "kind", "game", "matching_weight"),
    [
        ("hifigan_discriminators_small", SMALL, "mpd", "least_squares", 2.0),
        ("hifigan_discriminators_small", SMALL, "msd", "least_squares", 2.0),
        ("hifigan_discriminators_full", WHOLE, "mpd", "least_squares", 2.0),
        ("hifigan_discriminators_full", WHOLE, "msd", "least_squares", 2.0),
        ("vocos_discriminators", VOCOS, "mpd", "hinge", 1.0),
        ("vocos_discriminators", VOCOS, "mrd", "hinge", 1.0),
    ],
)
def test_equals_published(golden, name, shapes, kind, game, matching_weight):
    case = golden(name)
    tolerance = json.loads((GOLDEN / f"{name}.json").read_text())["tolerance"]
    discriminator = filled(shapes[kind](), case, kind)
    real, fake = (case.input[side].flatten(1) for side in ("y", "y_hat"))
    with torch.inference_mode():
        assert_parity(case, tolerance, kind, discriminate(discriminator, real, fake), game, matching_weight)


@pytest.mark.parametrize("kind", ["mpd", "msd"])
def test_names_are_the_published_ones(golden, kind):
    shapes = golden(f"shapes_hifigan_{kind}").shapes
    assert {key: list(value.shape) for key, value in published_names(WHOLE[kind]())} == shapes


def test_names_of_vocos():
    names = {key for key, _ in published_names(MultiResolutionDiscriminator(channels=8))}
    assert {"discriminators.0.band_convs.2.3.weight_g", "discriminators.2.conv_post.weight_v"} <= names
    assert len(names) == 3 * 3 * (5 * 5 + 1)


@pytest.mark.parametrize("kind", SLIM)
def test_published_weights_come_back(kind):
    """What is saved under the old names is loaded completely; the window, a buffer of Vocos, is ignored."""
    one, other = SLIM[kind]().eval(), SLIM[kind]().eval()
    wav = torch.randn(2, 3000)
    before = other(wav)
    load_published(other, {**dict(published_names(one)), "discriminators.0.spec_fn.window": torch.ones(4)})
    for ours, theirs, old in zip(other(wav), one(wav), before, strict=True):
        assert torch.equal(ours.score, theirs.score)
        assert not torch.equal(old.score, theirs.score)


@pytest.mark.parametrize("change", ["missing", "unknown", "size"])
def test_mismatched_weights_are_refused(change):
    discriminator = SLIM["mpd"]()
    weights = dict(published_names(discriminator))
    if change == "missing":
        del weights["discriminators.1.convs.0.bias"]
    elif change == "unknown":
        weights["discriminators.7.convs.0.bias"] = torch.zeros(3)
    else:
        weights["discriminators.1.convs.0.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"do not fit this MultiPeriodDiscriminator: 1 of.*convs\.0\.bias"):
        load_published(discriminator, weights)


@pytest.mark.parametrize("kind", SLIM)
def test_gradient_flows(kind):
    discriminator = SLIM[kind]()
    wav = torch.randn(2, 3001, requires_grad=True)
    sum(score.mean() for score, _ in discriminator(wav)).backward()
    assert wav.grad is not None
    assert (wav.grad != 0).any(1).all()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", SLIM)
def test_one_batch_is_two_calls(kind):
    discriminator = SLIM[kind]().eval()  # spectral norm changes a little with each training forward
    real, fake = torch.randn(2, 3001), 3 * torch.randn(1, 3001) + 1
    with torch.inference_mode():
        apart = discriminator(real), discriminator(fake)
        for together, alone in zip(discriminate(discriminator, real, fake), apart, strict=True):
            for ours, theirs in zip(together, alone, strict=True):
                assert torch.allclose(ours.score, theirs.score, atol=1e-5)
                for one, other in zip(ours.feature_maps, theirs.feature_maps, strict=True):
                    assert one.shape == other.shape
                    assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", SLIM)
def test_bfloat16(kind):
    discriminator = SLIM[kind]().train()
    wav = torch.randn(2, 3000)
    whole = discriminator.eval()(wav)
    discriminator.train()
    with torch.autocast("cpu", torch.bfloat16):
        real, fake = discriminate(discriminator, wav, wav)
        loss = feature_matching(real, fake) + ADVERSARIAL["hinge"].discriminator(real, fake)
    assert real[0].score.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    loss.backward()
    for ours, exact in zip(real, whole, strict=True):
        assert torch.allclose(ours.score.float(), exact.score, atol=0.05)


@pytest.mark.parametrize("kind", SLIM)
def test_first_map(kind):
    """With the first layer's map there is one more (in each band, for spectrograms); nothing else changes."""
    wav = torch.randn(1, 2000)
    make, more = {
        "mpd": (lambda first: MultiPeriodDiscriminator((2, 4), (2, 3), first), 1),
        "msd": (lambda first: MultiScaleDiscriminator((16,) * 7, 2, first), 1),
        "mrd": (lambda first: MultiResolutionDiscriminator(2, (256, 128), first), 5),
    }[kind]
    for shown, hidden in zip(make(True)(wav), make(False)(wav), strict=True):
        assert len(shown.feature_maps) == len(hidden.feature_maps) + more
        assert shown.feature_maps[-1].numel() == shown.score.numel() == hidden.score.numel()


@pytest.mark.parametrize("kind", SLIM)
def test_slim_is_smaller(kind):
    slim, whole = (sum(p.numel() for p in make[kind]().parameters()) for make in (SLIM, WHOLE))
    assert 8 * slim < whole


def test_spectrograms_ignore_loudness():
    discriminator = SLIM["mrd"]().eval()
    wav = torch.randn(1, 3000)
    for one, other in zip(discriminator(wav), discriminator(0.1 * wav + 0.3), strict=True):
        assert torch.allclose(one.score, other.score, atol=1e-4)
    assert all(score.isfinite().all() for score, _ in discriminator(torch.zeros(1, 3000)))


@pytest.mark.parametrize("samples", [11, 12, 100])
def test_short_waveforms_are_scored(samples):
    for make in SLIM.values():
        assert all(score.shape[0] == 2 for score, _ in make()(torch.randn(2, samples)))


@pytest.mark.parametrize("kind", SLIM)
@pytest.mark.parametrize("shape", [(3000,), (1, 1, 3000), (2, 0)])
def test_wrong_shapes_are_refused(kind, shape):
    with pytest.raises(ValueError, match=r"\(batch, samples\)"):
        SLIM[kind]()(torch.zeros(shape))


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="of the same length"):
        discriminate(SLIM["mpd"](), torch.zeros(1, 3000), torch.zeros(1, 3001))
