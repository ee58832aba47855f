"""Encoders that are no transformers: what is causal sees nothing later; conformers are transformers' own."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from pretrain.encoder.conformer import ConformerBlock
from pretrain.encoder.transformer import Scope
from pretrain.training.centring import centre_layer

SMALL = {"conv_dim": 16, "dim": 32, "depth": 3, "heads": 4, "ffn_dim": 64, "pos_kernel": 8, "pos_groups": 4}
STACK = EncoderConfig(**SMALL, frontend="stack", causal=True, position="none", conv_kernel=5)
CAUSAL = {
    **{kind: replace(STACK, context=kind) for kind in ("transformer", "conformer", "gru", "lstm", "conv")},
    "gated": replace(STACK, gated_bias=True, pre_norm=True),
    "cpc": EncoderConfig.cpc(**SMALL),
    "wav2vec": EncoderConfig.wav2vec(**SMALL),
}


def layers_of(config, wav, lengths=None):
    torch.manual_seed(0)
    with torch.inference_mode():
        return torch.stack(SpeechEncoder(config).eval().layers(wav, lengths))


@pytest.mark.parametrize("kind", CAUSAL)
def test_no_causal_frame_sees_the_future(kind):
    torch.manual_seed(1)
    wav = torch.randn(1, 16_000) * 0.2
    frame = 20
    end = 320 * frame + 400  # of what this frame may see
    changed = torch.cat([wav[:, :end], torch.randn(1, 16_000 - end)], 1)
    before, after = layers_of(CAUSAL[kind], wav), layers_of(CAUSAL[kind], changed)
    assert torch.equal(before[:, :, : frame + 1], after[:, :, : frame + 1])
    assert not torch.isclose(before[-1, :, frame + 1 :], after[-1, :, frame + 1 :]).all(-1).any()
    # it may even end there
    alone = layers_of(CAUSAL[kind], wav[:, :end])
    torch.testing.assert_close(alone, before[:, :, : frame + 1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_causal_frame_sees_the_past(kind):
    torch.manual_seed(1)
    wav = torch.randn(1, 8_000) * 0.2
    changed = wav.clone()
    changed[:, 320 * 15 : 320 * 16] = 0.3
    before, after = layers_of(CAUSAL[kind], wav), layers_of(CAUSAL[kind], changed)
    assert not torch.isclose(before[-1, 0, 18], after[-1, 0, 18]).all()  # whose own samples have not changed


def test_a_stacked_frame_is_its_two_spectra():
    encoder = SpeechEncoder(STACK)
    wav = torch.zeros(1, 8_000)
    wav[0, 320 * 10 : 320 * 10 + 100] = 0.5 * torch.sin(torch.arange(100) / 3)
    first, second = encoder.features(wav)[0].chunk(2, -1)
    assert encoder.features(wav).shape == (1, 24, 160)
    # both windows of frame 10 see the burst, and so does the first one of frame 11, which begins 160 samples earlier
    quiet = first[0, 0]
    assert ((first > quiet).any(-1).nonzero().flatten().tolist()) == [10]
    assert ((second > quiet).any(-1).nonzero().flatten().tolist()) == [9, 10]


class Transposed(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def test_conformer_blocks_are_those_of_transformers():
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    kinds = {"position_embeddings_type": None, "hidden_act": "swish", "conv_depthwise_kernel_size": 5}
    theirs = Wav2Vec2ConformerModel(Wav2Vec2ConformerConfig(**shape, **kinds, num_conv_pos_embedding_groups=4))
    layer = theirs.encoder.layers[0].eval()
    ours = ConformerBlock(EncoderConfig(**SMALL, context="conformer", conv_kernel=5)).eval()
    layer.conv_module.batch_norm = Transposed(ours.convolution.depthwise_norm)  # theirs depends on the batch
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        pairs = {
            "attention_norm": layer.self_attn_layer_norm,
            "norm": layer.final_layer_norm,
            **{
                f"attention.{mine}": getattr(layer.self_attn, f"linear_{their}")
                for mine, their in {"query": "q", "key": "k", "value": "v", "out": "out"}.items()
            },
            **{
                f"{mine}.{part}": module
                for mine, norm, network in (
                    ("first", layer.ffn1_layer_norm, layer.ffn1),
                    ("second", layer.ffn2_layer_norm, layer.ffn2),
                )
                for part, module in {
                    "norm": norm,
                    "widen": network.intermediate_dense,
                    "narrow": network.output_dense,
                }.items()
            },
            "convolution.norm": layer.conv_module.layer_norm,
            "convolution.depthwise": layer.conv_module.depthwise_conv,
        }
        for name, module in pairs.items():
            ours.get_submodule(name).load_state_dict(module.state_dict())
        ours.convolution.gate.weight.copy_(layer.conv_module.pointwise_conv1.weight[:, :, 0])
        ours.convolution.out.weight.copy_(layer.conv_module.pointwise_conv2.weight[:, :, 0])
        x = torch.randn(2, 20, 32)
        found = layer(x)
        wanted = found if isinstance(found, torch.Tensor) else found[0]  # by version
        got, inner = ours(x, Scope(None, None, None, None))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)
    assert inner.shape == x.shape


def test_windows_are_as_wide_as_the_context():
    assert EncoderConfig(**SMALL).context_frames == 64
    assert EncoderConfig(**SMALL | {"pos_kernel": 300}).context_frames == 152
    assert EncoderConfig.wav2vec().context_frames == 78  # kernels of 2 to 13
    assert replace(STACK, pos_kernel=300).context_frames == 64  # it has no positional convolution


def test_conformers_are_centred_and_recurrent_encoders_refused():
    torch.manual_seed(0)
    encoder = SpeechEncoder(replace(STACK, context="conformer"))
    wavs = [0.2 * torch.randn(8_000) for _ in range(3)]
    centred = centre_layer(encoder, 2, wavs)
    with torch.inference_mode():
        frames = torch.cat([centred(wav[None], layer=2)[0] for wav in wavs])
    assert frames.mean(0).abs().max() < 1e-5
    with pytest.raises(ValueError, match="a context of gru has no bias to shift"):
        centre_layer(SpeechEncoder(CAUSAL["gru"]), 2, wavs)


def test_new_fields_leave_fingerprints_as_they_are():
    """Of frames, which saved voices carry; and of trainings, which are resumed."""
    bundled = Path(ssl_vc.__file__).parent / "models" / "tiny" / "encoder"
    assert SpeechEncoder.from_pretrained(bundled).fingerprint(5) == "62aa9284deee387f"  # in its vocoders' configs
    stored = EncoderConfig.tiny().as_stored()
    assert {"frontend", "dim", "pos_depth"} <= stored.keys() and not {"context", "causal", "codes"} & stored.keys()
    assert EncoderConfig.cpc().as_stored().items() >= {"context": "gru", "causal": True, "position": "none"}.items()


def test_equal_weights_that_see_more_are_another_encoder():
    torch.manual_seed(0)
    config = EncoderConfig(**SMALL, frontend="stack", position="none")
    encoder, causal = SpeechEncoder(config), SpeechEncoder(replace(config, causal=True))
    causal.load_state_dict(encoder.state_dict())
    assert encoder.fingerprint(0) != causal.fingerprint(0)
