"""Vocoders exported to OpenVINO generate the same waveforms."""

import pytest
import torch

from vocoder.bigvgan import BigVGAN, BigVGANConfig
from vocoder.export import OpenVINOVocoder, export
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.kinds import load
from vocoder.vocos import Vocos, VocosConfig


@pytest.mark.parametrize(
    "model",
    [
        HiFiGAN(HiFiGANConfig.v2(channels=16, dim=12, reads={"kind": "mel"})),
        HiFiGAN(HiFiGANConfig.v3(channels=16, dim=12)),
        BigVGAN(BigVGANConfig.v2(channels=16, dim=12)),
    ],
    ids=["v2", "v3", "bigvgan"],
)
def test_same_waveform(model, tmp_path):
    pytest.importorskip("openvino", reason="needs the extra `export`", exc_type=ImportError)
    export(model, tmp_path / "exported")
    again = load(tmp_path / "exported")
    assert isinstance(again, OpenVINOVocoder)
    assert (again.config, again.context, again.reads) == (model.config, model.context, model.reads)
    frames = torch.randn(2, 61, 12)
    lengths = torch.tensor([61, 20])
    exact = OpenVINOVocoder(tmp_path / "exported", model.config, model.context, "float32")
    with torch.no_grad():
        assert (exact(frames, lengths) - model(frames, lengths)).abs().max() < 1e-4
        assert (exact.synthesize(frames[0]) - model.synthesize(frames[0])).abs().max() < 1e-4
    with pytest.raises(ValueError, match="precision is 'int4'"):
        OpenVINOVocoder(tmp_path / "exported", model.config, model.context, "int4")


def test_others_cannot_be_exported(tmp_path):
    with pytest.raises(ValueError, match="a vocos cannot be exported; hifigan and bigvgan can"):
        export(Vocos(VocosConfig(width=8, ffn_dim=8, depth=1)), tmp_path)
