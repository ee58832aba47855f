"""Speaker labels and adversarial training."""

import numpy as np
import pytest
import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Collator
from pretrain.data.manifest import Clip
from pretrain.labels.speakers import SpeakerLabels
from pretrain.objectives.hubert import Hubert, HubertSettings
from pretrain.objectives.protocol import scale_gradient

CLIPS = [Clip("a", None, 1.0, "ann"), Clip("b", None, 1.0, "bob"), Clip("c", None, 1.0, "ann"), Clip("d", None, 1.0)]


def test_speaker_ids_are_constant_over_a_clip():
    speakers = SpeakerLabels(CLIPS)
    assert speakers.clusters == 2
    assert [int(speakers[clip.key][49]) for clip in CLIPS] == [0, 1, 0, -1]
    assert int(speakers["stranger"][0]) == -1 and "stranger" in speakers
    assert len(speakers["a"]) > 10**6 and (speakers["a"][:1000] == 0).all()
    assert (
        speakers.fingerprint
        == SpeakerLabels(CLIPS[:2]).fingerprint
        != SpeakerLabels([*CLIPS, Clip("e", None, 1.0, "eve")]).fingerprint
    )


def test_one_speaker_is_refused():
    with pytest.raises(ValueError, match="the clips are of 1 known speakers"):
        SpeakerLabels(CLIPS[:1])


@pytest.mark.parametrize("share", [1.0, 0.5, 0.0, -0.3])
def test_the_encoders_gradient_is_scaled(share):
    frames = torch.randn(4, 8, requires_grad=True)
    given = scale_gradient(frames, share)
    assert torch.equal(given, frames)
    given.square().sum().backward()
    assert torch.allclose(frames.grad, share * 2 * frames, atol=1e-5)


def test_a_negative_weight_reverses_the_encoders_gradient():
    """The head learns as ever, and the encoder's gradient is turned around."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.tiny(dim=16, conv_dim=16, depth=1, heads=2, ffn_dim=16, pos_groups=2))
    settings = HubertSettings(head_dim=8, mask_probability=0.5, seen_weight=1.0)
    make = Collator([SpeakerLabels(CLIPS)], settings.prepare, longest=1.0)
    wavs = [(clip, np.random.default_rng(n).normal(size=16_000).astype(np.float32)) for n, clip in enumerate(CLIPS)]
    batch = make(wavs, [np.random.default_rng(n) for n in range(4)])
    plain, turned = (Hubert(settings, encoder, [2], [share]) for share in (1.0, -0.5))
    turned.load_state_dict(plain.state_dict())
    gradients = []
    for objective in (plain, turned):
        losses = objective(encoder.eval(), batch).losses
        (losses["masked"] + losses["seen"]).backward()
        weight = encoder.transformer.blocks[0].narrow.weight
        gradients.append((weight.grad.clone(), objective.project[0].weight.grad))
        encoder.zero_grad()
    (own, head), (other, other_head) = gradients
    assert own.norm() > 0
    assert torch.allclose(other, -0.5 * own, rtol=1e-3, atol=1e-5)
    assert torch.allclose(head, other_head, rtol=1e-3, atol=1e-5)
