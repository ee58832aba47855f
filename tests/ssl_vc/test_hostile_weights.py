"""A config that claims more than its weights hold is refused before memory is allocated; so are weights of NaN."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.hub.registry import BUNDLED
from ssl_vc.tts.g2p import G2PModel
from ssl_vc.tts.model import TextModel
from ssl_vc.units.codebook import FILE, Codebook
from vocoder import BigVGAN, HiFiGAN, UnitHiFiGAN, Vocos
from vocoder.bigvgan import BigVGANConfig
from vocoder.hifigan import HiFiGANConfig
from vocoder.unit_hifigan import UnitHiFiGANConfig
from vocoder.vocos import VocosConfig

SMALL = {"conv_dim": 8, "dim": 16, "depth": 1, "heads": 2, "ffn_dim": 16}
GENERATOR = {"channels": 32, "rates": (10, 32), "kernels": (20, 64), "block_kernels": (3,), "dilations": ((1,),)}
NETWORKS = {
    "log-mel": (SpeechEncoder, EncoderConfig.tiny(**SMALL)),
    "wavlm": (SpeechEncoder, EncoderConfig.wavlm_large(**SMALL, pos_kernel=4, pos_groups=2)),
    "vocos": (Vocos, VocosConfig(dim=4, width=8, ffn_dim=8, depth=1)),
    "hifigan": (HiFiGAN, HiFiGANConfig(dim=4, projection=8, **GENERATOR)),
    "bigvgan": (BigVGAN, BigVGANConfig(dim=4, projection=0, **GENERATOR)),
    "unit-hifigan": (UnitHiFiGAN, UnitHiFiGANConfig(units=4, unit_dim=4, pitch="codes", pitch_dim=4, **GENERATOR)),
}
HUGE, LONG = 10**8, 10**5


@pytest.fixture
def saved(tmp_path):
    """Save a small network with changes of its config, and give the class and the folder."""

    def save(kind, **changes):
        cls, config = NETWORKS[kind]
        torch.manual_seed(0)
        cls(config).save_pretrained(tmp_path)
        file = tmp_path / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return cls, tmp_path

    return save


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("log-mel", {"depth": LONG}),
        ("log-mel", {"depth": LONG, "dim": 1, "heads": 1, "pos_groups": 1, "ffn_dim": 1}),
        ("log-mel", {"ffn_dim": HUGE}),
        ("log-mel", {"mel_bins": HUGE}),
        ("wavlm", {"num_buckets": HUGE}),
        ("wavlm", {"pos_kernel": HUGE}),
        ("vocos", {"depth": LONG}),
        ("vocos", {"n_fft": HUGE}),
        ("vocos", {"n_fft": HUGE, "hop": HUGE // 2, "width": 1, "harmonic": True}),
        ("hifigan", {"projection": HUGE}),
        ("hifigan", {"block_kernels": [HUGE + 1]}),
        ("hifigan", {"rates": [10, HUGE], "kernels": [20, HUGE + 2], "harmonic": True}),
        ("hifigan", {"rates": [999] * 5, "kernels": [999] * 5, "harmonic": True}),  # the product, of small weights
        ("bigvgan", {"channels": 2**28}),
        ("unit-hifigan", {"units": HUGE}),
        ("unit-hifigan", {"pitch_codes": HUGE}),
    ],
)
def test_a_config_larger_than_its_weights(saved, kind, changes):
    cls, folder = saved(kind, **changes)
    with pytest.raises(ValueError, match="the config describes a larger network than these weights make"):
        cls.from_pretrained(folder)  # would take gigabytes


@pytest.mark.parametrize("kind", NETWORKS)
def test_equal_weights_are_loaded_and_wrong_shapes_named(saved, kind):
    cls, folder = saved(kind)
    again = cls.from_pretrained(folder).state_dict()
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == again.keys()
    assert all(torch.equal(again[name], value) for name, value in stored.items())
    name = next(name for name, value in stored.items() if value.ndim > 1)
    save_file(stored | {name: stored[name][1:].contiguous()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match=rf"the weight {name} has shape .* the config requires"):
        cls.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["log-mel", "vocos", "hifigan"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(saved, kind, value):
    cls, folder = saved(kind)
    stored = load_file(folder / "model.safetensors")
    name = sorted(stored)[-1]
    stored[name].view(-1)[-1] = value
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(ValueError, match=f"the weight {name} is NaN or infinite"):
        cls.from_pretrained(folder)


def test_large_but_finite_weights_are_not_mistaken(saved):
    cls, folder = saved("log-mel")
    stored = load_file(folder / "model.safetensors")
    stored["feature_norm.weight"].fill_(3e38)  # their sum is infinite
    save_file(stored, folder / "model.safetensors")
    assert cls.from_pretrained(folder).feature_norm.weight[0] == 3e38


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"reads": None}, "reads is None; it must be an object"),
        ({"depth": 10**400}, "depth is 10+; it must be at least 1, and at most 2147483647"),
    ],
)
def test_odd_values_in_a_vocoder_config(saved, changes, problem):
    cls, folder = saved("vocos", **changes)
    with pytest.raises(ValueError, match=problem):
        cls.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"depth": 10**400}, "depth is 10+; it must be at most 2147483647"),
        ({"max_distance": 10**400}, "max_distance is 10+; it must be at most"),
        ({"dropout": 10**400}, "dropout is 10+; it must be at most"),
        ({"num_buckets": 1}, "num_buckets is 1; it must be at least 4"),
    ],
)
def test_odd_values_in_an_encoder_config(changes, problem):
    with pytest.raises(ValueError, match=problem):
        EncoderConfig.wavlm_base(**SMALL | changes)


def rewrite_header(file, **metadata):
    """Change the metadata of a safetensors file."""
    with safe_open(file, "pt") as stored:
        found, tensors = stored.metadata(), {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
    save_file(tensors, file, found | metadata)


def test_a_g2p_model_with_a_million_layers(tmp_path):
    G2PModel(8, 1).save(tmp_path / "g2p.safetensors")
    assert G2PModel.load(tmp_path / "g2p.safetensors").shape == {"dim": 8, "depth": 1}
    rewrite_header(tmp_path / "g2p.safetensors", shape=json.dumps({"dim": 8, "depth": LONG}))
    with pytest.raises(ValueError, match=r"not a G2P model .* larger network than these weights"):
        G2PModel.load(tmp_path / "g2p.safetensors")


@pytest.mark.parametrize("facts", ["[" * 100_000, '{"layer": ' + "9" * 5000 + "}"])
def test_a_codebook_with_odd_facts(tmp_path, facts):
    (tmp_path / FILE).write_bytes((BUNDLED / "tiny" / "units" / FILE).read_bytes())
    rewrite_header(tmp_path / FILE, facts=facts)
    with pytest.raises(ValueError, match="is not a codebook of ssl-vc"):
        Codebook.load(tmp_path / FILE)


def test_a_text_model_that_claims_more_than_its_weights(tmp_path):
    for file in (BUNDLED / "tiny" / "tts").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["acoustic"]["decoder_depth"] = LONG
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"is not a text model .* larger network than these weights make"):
        TextModel.load(tmp_path)
