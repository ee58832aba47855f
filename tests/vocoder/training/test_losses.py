"""The losses against those of HiFi-GAN, BigVGAN and Vocos, by hand, and their properties."""

import json
import math
from pathlib import Path

import pytest
import torch

from vocoder.mel import MelConfig
from vocoder.training.discriminators import DiscriminatorOutput, MultiPeriodDiscriminator, discriminate
from vocoder.training.losses import (
    ADVERSARIAL,
    MelLoss,
    MultiResolutionSTFTLoss,
    MultiScaleMelLoss,
    STFTLoss,
    feature_matching,
    limit_bandwidth,
)

GOLDEN = Path(__file__).parents[2] / "golden"
SPECTRAL = {
    "mel": MelLoss,
    "multi-scale mel": lambda: MultiScaleMelLoss(16_000),
    "multi-resolution STFT": MultiResolutionSTFTLoss,
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


@pytest.fixture
def assert_equal(golden):
    def check(name, key, ours):
        tolerance = json.loads((GOLDEN / f"{name}.json").read_text())["tolerance"]
        want = golden(name).output[key].squeeze()
        print(f"{key}: {ours.item():.6f}, off by {(ours - want).abs().item():.1e}")  # pytest -rP shows it
        assert (ours - want).abs() <= tolerance["atol"] + tolerance["rtol"] * want.abs()

    return check


def scored(*values):
    return [DiscriminatorOutput(torch.tensor([value]), []) for value in values]


def test_hifigan_losses(golden, assert_equal):
    case = golden("hifigan_losses")

    def outputs(scores, maps):
        return [
            DiscriminatorOutput(
                case.input[f"{scores}_d{n}"], [case.input[f"{maps}_{n}_{m}"] for m in range(len(shapes))]
            )
            for n, shapes in enumerate(case.config["shapes"])
        ]

    real, fake, game = outputs("real", "fr"), outputs("fake", "fg"), ADVERSARIAL["least_squares"]
    assert_equal("hifigan_losses", "feature_loss", 2 * feature_matching(real, fake))
    assert_equal("hifigan_losses", "discriminator_loss", game.discriminator(real, fake))
    assert_equal("hifigan_losses", "generator_loss", game.generator(fake))
    parts = torch.stack([game.generator([one]) for one in fake])
    assert torch.allclose(parts, case.output["gen_losses"], atol=1e-6)


def test_bigvgan_multi_scale_mel(golden, assert_equal):
    case = golden("bigvgan_mel_losses")
    loss = MultiScaleMelLoss(case.config["sampling_rate"])(case.input["wav"], case.input["other"])
    assert_equal("bigvgan_mel_losses", "multiscale_mel_loss", loss)


def test_vocos_mel(golden, assert_equal):
    case = golden("vocos_mel")
    loss = MelLoss(MelConfig(24_000, 1024, 256, 100, scale="htk", padding="center", floor=1e-7, epsilon=0.0))
    assert_equal("vocos_mel", "mel_loss", loss(case.input["wav"], case.input["other"]))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        # of real scores 2 and 0.5, and fake ones -3 and 0.5
        ("least_squares", (1 + 0.25) + (9 + 0.25), 16 + 0.25),
        ("hinge", (0 + 0.5) + (0 + 1.5), 4 + 0.5),
    ],
)
def test_games_by_hand(name, discriminator, generator):
    real, fake = scored([2.0], [0.5]), scored([-3.0], [0.5])
    assert ADVERSARIAL[name].discriminator(real, fake) == discriminator
    assert ADVERSARIAL[name].generator(fake) == generator


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_games_average_places_and_sum_discriminators(name):
    game = ADVERSARIAL[name]
    one = game.generator(scored([0.5, -1.0]))
    assert one == (game.generator(scored([0.5])) + game.generator(scored([-1.0]))) / 2
    assert game.generator(scored([0.5, -1.0], [0.5, -1.0])) == 2 * one


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_gradients_oppose(name):
    score = torch.zeros(1, 3, requires_grad=True)
    fake = [DiscriminatorOutput(score, [])]
    (theirs,) = torch.autograd.grad(ADVERSARIAL[name].generator(fake), score)
    (ours,) = torch.autograd.grad(
        ADVERSARIAL[name].discriminator(scored([0.0]), [DiscriminatorOutput(score + 0.1, [])]), score
    )
    assert (theirs < 0).all()
    assert (ours > 0).all()


def test_feature_matching_by_hand():
    real = [DiscriminatorOutput(torch.zeros(1, 1), [torch.tensor([[1.0, 2.0]]), torch.tensor([[[0.0]]])])]
    fake = [DiscriminatorOutput(torch.zeros(1, 1), [torch.tensor([[0.0, 4.0]]), torch.tensor([[[0.5]]])])]
    assert feature_matching(real, fake) == 1.5 + 0.5
    assert feature_matching(real, real) == 0


def test_feature_matching_trains_the_fake_only():
    real, fake = (torch.randn(1, 1500, requires_grad=True) for _ in range(2))
    feature_matching(*discriminate(MultiPeriodDiscriminator((2, 4), (2, 3)), real, fake)).backward()
    assert (fake.grad != 0).any()
    assert (real.grad == 0).all()


@pytest.mark.parametrize("kind", SPECTRAL)
def test_equal_waveforms_have_zero_loss(kind):
    wav = torch.randn(2, 8000)
    loss = SPECTRAL[kind]()
    assert loss(wav, wav) == 0
    small, large = loss(wav, wav + 0.01 * torch.randn_like(wav)), loss(wav, wav + torch.randn_like(wav))
    assert 0 < small < large


@pytest.mark.parametrize("kind", SPECTRAL)
def test_silence_has_gradients(kind):
    fake = torch.zeros(1, 4000, requires_grad=True)
    for real in (torch.zeros(1, 4000), torch.randn(1, 4000)):
        SPECTRAL[kind]()(real, fake).backward()
        assert fake.grad.isfinite().all()


@pytest.mark.parametrize("kind", SPECTRAL)
def test_gradient_descends(kind):
    real, loss = torch.randn(1, 4000), SPECTRAL[kind]()
    fake = torch.randn(1, 4000, requires_grad=True)
    before = loss(real, fake)
    (slope,) = torch.autograd.grad(before, fake)
    assert loss(real, fake - 1e-3 * slope / slope.abs().max()) < before


@pytest.mark.parametrize("kind", SPECTRAL)
def test_float32_under_autocast(kind):
    real, fake, loss = torch.randn(2, 4000), torch.randn(2, 4000), SPECTRAL[kind]()
    with torch.autocast("cpu", torch.bfloat16):
        ours = loss(real, fake)
    assert ours.dtype == torch.float32
    assert ours == loss(real, fake)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_bfloat16_scores_give_float32_losses(name):
    half = torch.full((2, 3), 1.01).bfloat16()
    exact, game = half.float(), ADVERSARIAL[name]
    ours, theirs = [DiscriminatorOutput(half, [half])], [DiscriminatorOutput(exact, [exact])]
    other, theirs_other = [DiscriminatorOutput(-half, [half / 3])], [DiscriminatorOutput(-exact, [(half / 3).float()])]
    assert game.generator(other).dtype == torch.float32
    assert game.generator(other) == game.generator(theirs_other)
    assert game.discriminator(ours, other) == game.discriminator(theirs, theirs_other)
    assert feature_matching(ours, other).dtype == torch.float32
    assert feature_matching(ours, other) == feature_matching(theirs, theirs_other)


def test_losses_have_no_weights():
    """Their constants follow the device but stay out of checkpoints."""
    for make in SPECTRAL.values():
        assert not make().state_dict()
        assert list(make().buffers())


def test_stft_loss_by_definition():
    real, fake = torch.randn(2, 3000), torch.randn(2, 3000)
    window = torch.hann_window(240)
    target, ours = (
        torch.stft(wav, 512, 50, 240, window, return_complex=True).abs().clamp(min=1e-7**0.5) for wav in (real, fake)
    )
    convergence = ((target - ours).square().sum((1, 2)) / target.square().sum((1, 2))).sqrt().mean()
    want = convergence + (target.log() - ours.log()).abs().mean()
    assert torch.allclose(STFTLoss(512, 50, 240)(real, fake), want, atol=1e-5)
    assert torch.allclose(MultiResolutionSTFTLoss([(512, 50, 240)] * 2)(real, fake), want, atol=1e-5)


def test_half_the_loudness():
    """Spectral convergence is then a half, and the log magnitude log 2 away."""
    wav = torch.randn(1, 8000)
    assert MultiResolutionSTFTLoss()(wav, 0.5 * wav) == pytest.approx(0.5 + math.log(2), abs=1e-4)


@pytest.mark.parametrize("kind", SPECTRAL)
@pytest.mark.parametrize("shape", [(4000,), (1, 1, 4000), (2, 4000), (1, 3999)])
def test_wrong_shapes_are_refused(kind, shape):
    with pytest.raises(ValueError, match=r"both must be \(batch, samples\)"):
        SPECTRAL[kind]()(torch.zeros(1, 4000), torch.zeros(shape))


def tone(frequency, rate=24_000, samples=6000):
    return torch.sin(2 * math.pi * frequency * torch.arange(samples) / rate)


def test_what_a_recording_lacks_is_not_compared():
    """Below its bandwidth a waveform stays, above nothing is left, row by row, and no loss sees what was there."""
    bandwidth = torch.tensor([8000.0, 12_000.0])
    wav = torch.stack([tone(500) + 0.5 * tone(10_000)] * 2)
    limited = limit_bandwidth(wav, bandwidth, 24_000)
    inner = slice(500, -500)
    torch.testing.assert_close(limited[0, inner], tone(500)[inner], atol=2e-3, rtol=0)
    torch.testing.assert_close(limited[1], wav[1], atol=1e-5, rtol=0)
    assert limit_bandwidth(wav, bandwidth[1:].expand(2), 24_000) is wav
    recorded = limit_bandwidth(0.1 * torch.randn(2, 6000), torch.full((2,), 8000.0), 24_000)
    fakes = recorded, recorded + 0.1 * tone(10_500)
    for make in SPECTRAL.values():
        loss = make()
        whole = [float(loss(recorded, fake)) for fake in fakes]
        narrow = torch.full((2,), 8000.0)
        limited = limit_bandwidth(recorded, narrow, 24_000)
        heard = [float(loss(limited, limit_bandwidth(fake, narrow, 24_000))) for fake in fakes]
        assert whole[0] == heard[0] == 0 and whole[1] > 0.1 and heard[1] < 0.05 * whole[1]


def test_nothing_is_learned_above_a_recordings_bandwidth():
    torch.manual_seed(0)
    fake = torch.randn(1, 6000, requires_grad=True)
    narrow = torch.tensor([8000.0])
    real = limit_bandwidth(torch.randn(1, 6000), narrow, 24_000)
    MultiScaleMelLoss(24_000)(real, limit_bandwidth(fake, narrow, 24_000)).backward()
    power = torch.fft.rfft(fake.grad[0] * torch.hann_window(6000)).abs().square()
    assert power[2050:].sum() < 1e-4 * power[:1800].sum()
