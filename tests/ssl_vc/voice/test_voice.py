"""A voice is one file that comes back as it was, mixes with others of its make, and refuses everything else."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import ssl_vc
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.voice.voice import FORMAT, Findings, Origin, PitchRange, Voice, to_half

GOLDEN = Path(__file__).parents[2] / "golden"
DIM = 6
SPEC = FrameSpec("0123456789abcdef", 4, False, DIM)
WORLD = {"kind": "world", "hop_length": 320}


def voice(frames=40, seed=0, name="anna", **other):
    generator = torch.Generator().manual_seed(seed)
    made = to_half(torch.randn(frames, DIM, generator=generator) + 1)
    origins = (Origin("a.wav", "00", 0.5, frames - 10), Origin("b.wav", "11", 0.2, 10))
    pitch = PitchRange(200.0, 150.0, 300.0, 0.6)
    return Voice(
        **{"frames": made, "spec": SPEC, "name": name, "origins": origins, "pitch": pitch, "note": "CC0", **other}
    )


def with_synthesis(frames=40, seed=0, name="anna", dim=3):
    generator = torch.Generator().manual_seed(seed + 100)
    return voice(
        frames, seed, name, synthesis=to_half(torch.randn(frames, dim, generator=generator)), synthesis_spec=dict(WORLD)
    )


def facts(voice):
    return {key: value for key, value in vars(voice).items() if key not in ("frames", "synthesis")}


@pytest.mark.parametrize("make", [voice, with_synthesis])
@pytest.mark.parametrize("findings", [None, Findings(0.01, 40.0, ("b.wav",), 0.2), Findings(0.0, None, (), 0.2)])
def test_comes_back_as_it_was(make, findings, tmp_path):
    before = replace(make(), findings=findings)
    after = ssl_vc.Voice.load(before.save(tmp_path / "anna.voice"))
    assert facts(after) == facts(before)
    assert torch.equal(after.frames, before.frames)
    assert after.frames.dtype == torch.float16
    assert (after.synthesis is None) == (before.synthesis is None)
    if before.synthesis is not None:
        assert torch.equal(after.synthesis, before.synthesis)
    assert [path.name for path in tmp_path.iterdir()] == ["anna.voice"]


def test_a_file_of_version_0_1_opens():
    """Golden: `ssl-vc voice build` of two seconds of demos/samples/emma.opus, `--model untrained`, by 0.1.0."""
    emma = Voice.load(GOLDEN / "emma_0.1.voice")
    assert (emma.name, emma.spec.encoder, emma.spec.layer) == ("emma", "74a7078548e3388a", 4)
    assert (len(emma.frames), emma.synthesis.shape, emma.feature_spec["kind"]) == (87, (87, 80), "mel")
    assert emma.findings == Findings(0.0, pytest.approx(21.689, abs=1e-3), (), pytest.approx(0.565, abs=1e-3))
    assert emma.pitch.median == 191.31
    neighbours = emma.pool().nearest(emma.frames[::10].float(), 1)
    assert neighbours.index[:, 0].tolist() == list(range(0, 87, 10))


def test_former_names_of_findings_are_read(tmp_path):
    path = replace(voice(), findings=Findings(0.01, 40.0, ("b.wav",), 0.2)).save(tmp_path / "anna.voice")
    former = {"clipped": 0.01, "noise": 40.0, "strangers": ["b.wav"], "reach": 0.2}
    rewritten(path, lambda meta, inside, tensors: inside.update(findings=former))
    assert Voice.load(path).findings == Findings(0.01, 40.0, ("b.wav",), 0.2)


def test_what_is_too_large_for_16_bits_is_kept_as_bfloat16(tmp_path):
    frames = to_half(torch.full((3, DIM), 1e6))
    assert frames.dtype == torch.bfloat16
    loaded = Voice.load(Voice(frames, SPEC).save(tmp_path / "loud.voice"))
    assert torch.allclose(loaded.frames.float(), torch.tensor(1e6), rtol=4e-3)


def test_says_what_its_vocoder_reads():
    assert voice().feature_spec == SPEC.feature_spec
    assert with_synthesis().feature_spec == WORLD
    assert voice(50).seconds == 1.0


def test_pool_holds_its_clips():
    pool = with_synthesis().pool()
    assert (~pool.has_successor).nonzero()[:, 0].tolist() == [29, 39]
    assert pool.synthesis.shape == (40, 3)
    assert voice().pool().same_space


def test_mixture_lies_between_its_parts():
    first, second = voice(seed=0), voice(seed=1, name="bert", pitch=PitchRange(100.0, 75.0, 150.0, 0.6))
    mixed = Voice.mix([(first, 3), (second, 1)])
    assert len(mixed.frames) == 80
    assert mixed.name == "75% anna + 25% bert"
    assert mixed.pitch.median == pytest.approx(200**0.75 * 100**0.25)
    assert mixed.note == "75% anna: CC0\n25% bert: CC0"
    assert [origin.frames for origin in mixed.origins] == [30, 10, 30, 10]
    near = second.pool().nearest(first.frames.float(), 4).index
    by_hand = 0.75 * first.frames.float() + 0.25 * second.frames.float()[near].mean(1)
    assert torch.allclose(mixed.frames[:40].float(), by_hand, atol=2e-3)


def test_mixture_takes_synthesis_along():
    first, second = with_synthesis(seed=0), with_synthesis(30, seed=1, name="bert")
    mixed = Voice.mix([(first, 1), (second, 1)], "both")
    assert mixed.name == "both"
    assert mixed.synthesis.shape == (70, 3)
    near = first.pool().nearest(second.frames.float(), 4).index
    by_hand = 0.5 * second.synthesis.float() + 0.5 * first.synthesis.float()[near].mean(1)
    assert torch.allclose(mixed.synthesis[40:].float(), by_hand, atol=2e-3)


def test_a_voice_mixed_with_itself_is_itself():
    one = voice()
    assert torch.allclose(Voice.mix([(one, 1), (one, 1)]).frames[:40].float(), one.frames.float(), atol=1e-3)


def test_other_makes_do_not_mix():
    other = voice(name="bert", spec=replace(SPEC, layer=5))
    with pytest.raises(ValueError, match="the voice 'bert' does not fit: it has layer 5 instead of 4"):
        Voice.mix([(voice(), 1), (other, 1)])
    with pytest.raises(ValueError, match="the voices 'anna' and 'bert' are for different vocoders"):
        Voice.mix([(voice(), 1), (with_synthesis(name="bert"), 1)])


@pytest.mark.parametrize("weights", [[1], [], [1, 0], [1, -1], [1, float("nan")]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="mixing needs two or more voices with positive weights"):
        Voice.mix([(voice(), weight) for weight in weights])


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"frames": torch.zeros(0, DIM)}, r"frames of shape \(0, 6\) instead of \(frames, 6\)"),
        ({"frames": torch.zeros(40, 5)}, r"frames of shape \(40, 5\)"),
        ({"frames": torch.full((40, DIM), torch.nan)}, "frames that are NaN or infinite"),
        ({"synthesis": torch.zeros(40, 3)}, "frames for synthesis without their spec"),
        ({"synthesis_spec": {}}, "frames for synthesis without their spec"),
        ({"synthesis": torch.zeros(39, 3), "synthesis_spec": {}}, r"synthesis frames of shape \(39, 3\) for 40 frames"),
        ({"origins": (Origin("a", "", 1.0, 39),)}, "40 frames, and its clips 39"),
    ],
)
def test_what_is_no_voice_is_refused(other, problem):
    with pytest.raises(ValueError, match=f"the voice 'anna' has {problem}.*build it again"):
        replace(voice(), **other)


def rewritten(path, change):
    """The file with its metadata changed."""
    tensors = load_file(path)
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata = header["__metadata__"]
    inside = json.loads(metadata["voice"])
    change(metadata, inside, tensors)
    if "voice" in metadata:
        metadata["voice"] = json.dumps(inside)
    save_file(tensors, path, metadata)


HOSTILE = {
    "another format": lambda meta, inside, tensors: meta.update(format="ssl-vc voice 99"),
    "no metadata": lambda meta, inside, tensors: meta.pop("voice"),
    "no frames": lambda meta, inside, tensors: tensors.update(x=tensors.pop("frames")),
    "more tensors": lambda meta, inside, tensors: tensors.update(x=torch.zeros(3)),
    "integers": lambda meta, inside, tensors: tensors.update(frames=torch.zeros(40, DIM, dtype=torch.int64)),
    "one dimension": lambda meta, inside, tensors: tensors.update(frames=torch.zeros(40).half()),
    "another dim": lambda meta, inside, tensors: inside["spec"].update(dim=10**12),
    "infinite": lambda meta, inside, tensors: tensors.update(frames=torch.full((40, DIM), torch.inf).half()),
    "spec with more": lambda meta, inside, tensors: inside["spec"].update(evil=1),
    "spec is text": lambda meta, inside, tensors: inside.update(spec="x"),
    "layer is text": lambda meta, inside, tensors: inside["spec"].update(layer="../../etc"),
    "layer is negative": lambda meta, inside, tensors: inside["spec"].update(layer=-1),
    "name is a list": lambda meta, inside, tensors: inside.update(name=["x"]),
    "more facts": lambda meta, inside, tensors: inside.update(command="x"),
    "clips that do not add up": lambda meta, inside, tensors: inside["origins"][0].update(frames=10**15),
    "a negative clip": lambda meta, inside, tensors: [
        inside["origins"][0].update(frames=50),
        inside["origins"][1].update(frames=-10),
    ],
    "pitch is text": lambda meta, inside, tensors: inside["pitch"].update(median="x"),
    "pitch is not finite": lambda meta, inside, tensors: inside["pitch"].update(median=float("nan")),
    "synthesis by nobody": lambda meta, inside, tensors: tensors.update(synthesis=torch.zeros(40, 3)),
    "no rate": lambda meta, inside, tensors: inside["spec"].update(sample_rate=0),
    "a pitch of 0": lambda meta, inside, tensors: inside["pitch"].update(median=0.0),
    "a name that clears the screen": lambda meta, inside, tensors: inside.update(name="\x1b[2J"),
    "findings of another kind": lambda meta, inside, tensors: inside.update(findings=[1]),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused(what, tmp_path):
    path = voice().save(tmp_path / "anna.voice")
    rewritten(path, HOSTILE[what])
    with pytest.raises(ValueError, match=r"anna\.voice is not a voice that this version reads: .+\.$"):
        Voice.load(path)


@pytest.mark.parametrize("size", [0, 5, 8, 100, 700])
def test_truncated_files_are_refused(size, tmp_path):
    path = voice().save(tmp_path / "anna.voice")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="is not a voice that this version reads"):
        Voice.load(path)


def test_pickles_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "evil.voice"
    path.write_bytes(pickle.dumps({"frames": [1, 2]}))
    with pytest.raises(ValueError, match="is not a voice that this version reads"):
        Voice.load(path)
    with pytest.raises(ValueError, match=r"there is no voice '.*none\.voice'; `ssl-vc voice build` creates one"):
        Voice.load(tmp_path / "none.voice")


def test_a_voice_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(OSError, match=r"gone/anna\.voice cannot be written"):
        voice().save(tmp_path / "gone" / "anna.voice")


def test_a_file_names_its_format(tmp_path):
    path = voice().save(tmp_path / "anna.voice")
    assert FORMAT.encode() in path.read_bytes()[:4000]


@pytest.mark.parametrize("make", [voice, with_synthesis])
def test_a_loaded_voice_does_not_depend_on_its_file(make, tmp_path):
    before = make()
    path = before.save(tmp_path / "anna.voice")
    after = Voice.load(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert torch.equal(after.frames, before.frames)
    assert before.synthesis is None or torch.equal(after.synthesis, before.synthesis)
