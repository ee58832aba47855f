"""DNSMOS uses the published windows and scale, and refuses other files."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ssl_vc.evaluate.quality import Dnsmos, DnsmosScores

RATE = 16_000
MISSING = find_spec("onnx") is None or find_spec("onnxruntime") is None
needs_onnx = pytest.mark.skipif(MISSING, reason="onnx or onnxruntime is not installed")


def model(path, samples=144_160, name="opinions"):
    """Write a model whose raw scores are the mean of the samples, twice that and three times that."""
    from onnx import TensorProto, helper, save

    sound = helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ["N", samples])
    scores = helper.make_tensor_value_info("Identity:0", TensorProto.FLOAT, ["N", 3])
    times = helper.make_tensor("times", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    nodes = [
        helper.make_node("ReduceMean", ["input_1"], ["level"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["level", "times"], ["Identity:0"]),
    ]
    graph = helper.make_graph(nodes, name, [sound], [scores], [times])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture
def judge(tmp_path):
    return Dnsmos(model(tmp_path / "sig_bak_ovr.onnx"))


def published(raw):
    """What the published polynomials make of raw scores."""
    signal, background, overall = raw
    return (
        -0.08397278 * signal**2 + 1.22083953 * signal + 0.0052439,
        -0.13166888 * background**2 + 1.60915514 * background - 0.39604546,
        -0.06766283 * overall**2 + 1.11546468 * overall + 0.04602535,
    )


@needs_onnx
def test_scores_are_on_the_published_scale(judge):
    found = judge(torch.ones(10 * RATE))
    assert isinstance(found, DnsmosScores)
    assert found == pytest.approx((1.14211065, 2.2955893, 2.78345632), rel=1e-6)


@needs_onnx
@pytest.mark.parametrize(("seconds", "windows"), [(9.01, 1), (10.9, 1), (11.0, 2), (13.5, 4)])
def test_a_window_begins_at_each_second_as_long_as_the_published_rule_says(judge, seconds, windows):
    wav = torch.linspace(0, 1, round(seconds * RATE))
    means = [float(wav[start * RATE :][:144_160].mean()) for start in range(windows)]
    expected = np.mean([published((level, 2 * level, 3 * level)) for level in means], axis=0)
    assert judge(wav) == pytest.approx(expected, rel=1e-4)


@needs_onnx
def test_a_short_sound_is_doubled_until_it_fills_a_window(judge):
    wav = torch.linspace(0, 1, 4 * RATE)
    assert judge(wav) == pytest.approx(judge(wav.repeat(4)), rel=1e-6)
    assert judge(wav) != pytest.approx(judge(wav.repeat(3)), rel=1e-4)  # 12 s: other windows


@needs_onnx
def test_it_says_which_file_judges(judge, tmp_path):
    assert judge.description.startswith("DNSMOS P.835, sig_bak_ovr.onnx (")
    changed = model(tmp_path / "sig_bak_ovr.onnx", name="other")
    assert Dnsmos(changed).description != judge.description


@needs_onnx
def test_silence_has_no_opinion(judge):
    assert judge(torch.zeros(RATE)) is judge(torch.zeros(0)) is None
    assert judge(torch.full((1,), 0.5)) is not None


@needs_onnx
def test_a_wrong_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"p808.onnx' is not the model of DNSMOS P.835.* use the published"):
        Dnsmos(model(tmp_path / "p808.onnx", 900))
    (tmp_path / "page.onnx").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page\.onnx' is no ONNX model, or is damaged; use"):
        Dnsmos(tmp_path / "page.onnx")
    for missing in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ValueError, match=r"cannot be read: .*; use the published sig_bak_ovr.onnx"):
            Dnsmos(missing)


def test_without_the_package_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"onnxruntime, which is missing; pip install 'ssl-vc\[eval\]'"):
        Dnsmos(tmp_path / "sig_bak_ovr.onnx")
