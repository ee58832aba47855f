"""Prematching: a clip's frames become what a conversion into its own speaker's voice would give, from other clips."""

import csv
import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.manifest import Clip, decode_input, read_manifest
from ssl_vc.cli import main
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.conversion.prematch import PrematchConfig, draw_sources, prematch
from ssl_vc.features.analysis import disentangled_analysis, ssl_analysis
from ssl_vc.features.disentangled import disentangled_layout
from ssl_vc.features.extractor import Extractor
from ssl_vc.match.knn import KNN
from ssl_vc.match.protocol import Pool
from ssl_vc.voice.voice import Voice
from vocoder.training.data import find_clips, pack_clips, stored_features
from vocoder.vocos import Vocos, VocosConfig

SMALL = {"conv_dim": 16, "dim": 32, "depth": 2, "heads": 4, "ffn_dim": 64, "matching_layer": 2}
PLAIN = PrematchConfig(neighbours=(3, 3), mixed=0.0, reference=(60.0, 60.0))


@pytest.fixture(scope="module")
def extractor():
    torch.manual_seed(0)
    return Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=0.5)).eval())


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, speech):
    """Three clips of a man, three of a woman, and one of a child who says nothing else."""
    folder = tmp_path_factory.mktemp("recordings")
    people = {"man": (3, 110.0, 1.0), "woman": (3, 210.0, 1.2), "child": (1, 300.0, 1.4)}
    for name, (clips, pitch, size) in people.items():
        (folder / name).mkdir()
        for number in range(clips):
            wav = speech(4, text=number, pitch=pitch, size=size)
            soundfile.write(folder / name / f"{number}.wav", wav.numpy(), 16_000)
    return folder


def frames_of(folder, clip):
    return load_file(folder / f"{clip.key}.safetensors")["frames"].float()


def others(clip, clips, make):
    near = [other for other in clips if other.speaker == clip.speaker and other.key != clip.key]
    return torch.cat([make(other) for other in near])


def sound(clip):
    return torch.from_numpy(soundfile.read(clip.path, dtype="float32")[0])


def test_frames_come_from_the_speakers_other_clips(recordings, extractor, tmp_path):
    clips = read_manifest(recordings)
    done = list(prematch(clips, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    assert {clip.key for clip in done} == {clip.key for clip in clips}
    for clip in clips:
        own = extractor(sound(clip), every_hop=True)
        if clip.speaker == "child":
            torch.testing.assert_close(frames_of(tmp_path / "pre", clip), own, atol=2e-3, rtol=0)
            continue
        pool = others(clip, clips, lambda other: extractor(sound(other), every_hop=True))
        (match,) = KNN(3)([own], Pool(pool))
        made = frames_of(tmp_path / "pre", clip)
        assert made.shape == own.shape
        right = (made - match.frames).abs().amax(1) < 5e-3  # a tie may be decided by the rounding of what is kept
        assert float(right.float().mean()) > 0.95


def test_the_melody_stays(recordings, extractor, tmp_path):
    clips, analysis = read_manifest(recordings), disentangled_analysis(extractor)
    parts = disentangled_layout(analysis.feature_spec)
    list(prematch(clips, tmp_path / "pre", extractor, analysis, parts, PLAIN))
    clip = next(clip for clip in clips if clip.speaker == "woman")
    made, own = frames_of(tmp_path / "pre", clip), torch.cat(list(analysis.frames(sound(clip))))
    for columns in (parts.pitch, parts.voicing, parts.loudness, parts.content):
        torch.testing.assert_close(made[:, columns], own[:, columns], atol=2e-2, rtol=1e-3)
    timbre = slice(parts.envelope.stop, None)
    for columns in (parts.envelope, timbre):
        assert float((made[:, columns] - own[:, columns]).abs().mean()) > 1e-3
    men = others(next(clip for clip in clips if clip.speaker == "man"), clips, lambda x: frames_of(tmp_path / "pre", x))
    distance = [float((made[:, timbre].mean(0) - of[:, timbre].mean(0)).norm()) for of in (own, men)]
    assert distance[0] < 0.5 * distance[1]  # the timbre of the speaker's other clips


def test_mixtures_lie_between(recordings, extractor, tmp_path):
    clips = read_manifest(recordings)
    half = PrematchConfig((3, 3), (0.5, 0.5), 1.0, reference=(60.0, 60.0))
    for name, config in (("whole", PLAIN), ("half", half)):
        list(prematch(clips, tmp_path / name, extractor, ssl_analysis(extractor), config=config))
    clip = clips[-1]
    own = extractor(sound(clip), every_hop=True)
    middle = (own + frames_of(tmp_path / "whole", clip)) / 2
    torch.testing.assert_close(frames_of(tmp_path / "half", clip), middle, atol=5e-3, rtol=0)


def test_some_clips_keep_their_own_frames(recordings, extractor, tmp_path):
    clips, analysis = read_manifest(recordings), ssl_analysis(extractor)
    for own in (0.5, 1.0):
        list(prematch(clips, tmp_path / str(own), extractor, analysis, config=replace(PLAIN, own=own)))
    kept = [torch.equal(*(frames_of(tmp_path / own, clip) for own in ("0.5", "1.0"))) for clip in clips]
    assert 0 < sum(kept) < len(clips)
    for clip in clips:
        own = extractor(sound(clip), every_hop=True)
        torch.testing.assert_close(frames_of(tmp_path / "1.0", clip), own, atol=2e-3, rtol=0)


def test_choices_differ_from_clip_to_clip_and_not_from_run_to_run(recordings, extractor, tmp_path):
    clips = read_manifest(recordings)
    config = PrematchConfig(reference=(5.0, 60.0))
    for name in ("one", "two"):
        list(prematch(clips, tmp_path / name, extractor, ssl_analysis(extractor), config=config))
    for clip in clips:
        assert torch.equal(frames_of(tmp_path / "one", clip), frames_of(tmp_path / "two", clip))
    list(prematch(clips, tmp_path / "other", extractor, ssl_analysis(extractor), config=PrematchConfig(seed=1)))
    assert any(
        not torch.equal(frames_of(tmp_path / "one", clip), frames_of(tmp_path / "other", clip)) for clip in clips
    )


def test_a_vocoder_learns_from_the_table(recordings, extractor, tmp_path):
    analysis = disentangled_analysis(extractor)
    list(
        prematch(
            read_manifest(recordings),
            tmp_path / "pre",
            extractor,
            analysis,
            disentangled_layout(analysis.feature_spec),
            PLAIN,
        )
    )
    clips = find_clips(tmp_path / "pre" / "clips.tsv")
    assert len(clips) == 7 and all(clip.audio.is_file() for clip in clips)
    reads = stored_features(clips[0])
    assert reads == analysis.feature_spec
    pack = pack_clips(clips, tmp_path / "pack", sample_rate=16_000, hop_length=320, reads=reads)
    assert sum(pack.lengths) == 7 * 200 and pack.dim == reads["dim"]


def test_the_table_finds_its_sounds_from_behind_a_link(recordings, extractor, tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "near").symlink_to(tmp_path / "far" / "away")
    clips = read_manifest(recordings)[:2]
    list(prematch(clips, tmp_path / "near" / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    assert all(clip.audio.is_file() for clip in find_clips(tmp_path / "near" / "pre" / "clips.tsv"))


def test_goes_on_where_it_was(recordings, extractor, tmp_path, monkeypatch):
    clips = read_manifest(recordings)
    list(prematch(clips, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    whole = {clip.key: frames_of(tmp_path / "pre", clip) for clip in clips}
    lost, kept = (tmp_path / "pre" / name for name in ("man/1.wav.safetensors", "man/0.wav.safetensors"))
    lost.unlink()
    before = kept.stat().st_mtime_ns
    heard = []
    monkeypatch.setattr(
        "ssl_vc.conversion.prematch.decode", lambda path: heard.append(path) or soundfile.read(path, dtype="float32")[0]
    )
    list(prematch(clips, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    assert {Path(path).parent.name for path in heard} == {"man"}
    assert kept.stat().st_mtime_ns == before
    assert all(torch.equal(frames_of(tmp_path / "pre", clip), whole[clip.key]) for clip in clips)
    with pytest.raises(ValueError, match="its contents were made with other settings; remove it, or choose another"):
        list(prematch(clips, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PrematchConfig(seed=3)))


def test_a_broken_clip_is_named(recordings, extractor, tmp_path, caplog):
    clips = read_manifest(recordings)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF")
    clips.append(clips[0]._replace(key="man/bad.wav", path=bad))
    with caplog.at_level(logging.WARNING):
        done = list(prematch(clips, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    assert len(done) == 7 and "man/bad.wav" in caplog.text
    with pytest.raises(ValueError, match=r"none of 1 clips can be used; the first: man/bad\.wav"):
        list(prematch(clips[-1:], tmp_path / "none", extractor, ssl_analysis(extractor), config=PLAIN))


@pytest.fixture(scope="module", params=[-300, 0, 300], ids=lambda more: f"{more} samples more")
def parallel(request, recordings, tmp_path_factory, speech):
    """The recordings; the woman's first clip and the child's are heard said by the man, perhaps longer or shorter."""
    heard = tmp_path_factory.mktemp("heard") / "man.wav"
    soundfile.write(heard, speech(4 + request.param / 16_000, text=0).numpy(), 16_000)
    said = ("woman/0.wav", "child/0.wav")
    return [clip._replace(source=heard) if clip.key in said else clip for clip in read_manifest(recordings)]


def handed_to_a_vocoder(extractor, analysis, clip, others, monkeypatch):
    """Convert a clip's source to the voice of other clips, and catch what the vocoder gets."""
    vocos = Vocos(
        VocosConfig(dim=analysis.feature_spec["dim"], width=16, ffn_dim=32, depth=1, reads=analysis.feature_spec)
    )
    converter, wavs = VoiceConverter(extractor, KNN(3), vocos.eval()), [sound(other) for other in others]
    matched = [extractor(wav, every_hop=True) for wav in wavs]
    spoken = torch.cat([analysis.compute(*both) for both in zip(wavs, matched, strict=True)])
    voice = Voice(
        torch.cat(matched).half(),
        extractor.spec,
        synthesis=spoken.half(),
        synthesis_spec=dict(analysis.feature_spec),
    )
    given = []
    monkeypatch.setattr(
        "ssl_vc.conversion.converter.synthesize",
        lambda _, pieces, __: given.extend(pieces) or torch.zeros(len(wavs[0])),
    )
    converter.convert(torch.from_numpy(decode_input(clip)), voice, loudness=None, pitch=0.0)
    return torch.cat(given)


def test_a_source_is_converted_as_a_converter_does(parallel, extractor, tmp_path, monkeypatch):
    analysis = disentangled_analysis(extractor)
    parts = disentangled_layout(analysis.feature_spec)
    list(prematch(parallel, tmp_path / "pre", extractor, analysis, parts, PLAIN))
    clip = next(clip for clip in parallel if clip.key == "woman/0.wav")
    made = frames_of(tmp_path / "pre", clip)
    near = [other for other in parallel if other.speaker == "woman" and other is not clip]
    given = handed_to_a_vocoder(extractor, analysis, clip, near, monkeypatch)
    assert made.shape == given.shape == (200, analysis.feature_spec["dim"])
    right = torch.isclose(made, given, atol=2e-2, rtol=1e-3).all(1)  # a tie may be decided by rounding
    assert float(right.float().mean()) > 0.95


def test_a_sources_melody_comes_with_the_others_voice(parallel, extractor, tmp_path):
    analysis = disentangled_analysis(extractor)
    parts = disentangled_layout(analysis.feature_spec)
    list(prematch(parallel, tmp_path / "pre", extractor, analysis, parts, PLAIN))
    clip = next(clip for clip in parallel if clip.key == "woman/0.wav")
    made = frames_of(tmp_path / "pre", clip)
    wavs = sound(clip), torch.from_numpy(decode_input(clip))
    said, heard = (torch.cat(list(analysis.frames(wav))) for wav in wavs)
    for columns in (parts.pitch, parts.voicing, parts.loudness, parts.content):
        torch.testing.assert_close(made[:, columns], heard[:, columns], atol=2e-2, rtol=1e-3)
        assert float((made[:, columns] - said[:, columns]).abs().max()) > 0.1
    timbre = slice(parts.envelope.stop, None)
    pool = others(clip, parallel, lambda other: torch.cat(list(analysis.frames(sound(other)))))
    near, far = (float((made - of.mean(0))[:, timbre].mean(0).norm()) for of in (pool, heard))
    assert near < 0.3 * far


def test_a_source_is_always_matched_wholly(parallel, extractor, tmp_path):
    analysis = ssl_analysis(extractor)
    configs = {"plain": PLAIN, "own": replace(PLAIN, own=1.0), "mixed": replace(PLAIN, mixed=1.0, blend=(0.0, 0.0))}
    for name, config in configs.items():
        list(prematch(parallel, tmp_path / name, extractor, analysis, config=config))
    for clip in parallel[1:]:
        plain, own, mixed = (frames_of(tmp_path / name, clip) for name in configs)
        assert torch.equal(own, mixed)
        assert torch.equal(plain, own) == (clip.source is not None)


def test_the_clip_is_what_comes_of_its_source(parallel, extractor, tmp_path):
    done = list(prematch(parallel, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    with (tmp_path / "pre" / "clips.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    listed = [(tmp_path / "pre" / row["path"]).resolve() for row in rows]
    assert listed == [clip.path for clip in done] and len(listed) == 6
    plain = [clip._replace(source=None) for clip in parallel]
    list(prematch(plain, tmp_path / "plain", extractor, ssl_analysis(extractor), config=PLAIN))
    for clip in done:  # and all the others are heard as they are
        same = torch.equal(*(frames_of(tmp_path / name, clip) for name in ("pre", "plain")))
        assert same == (clip.source is None)


def test_a_source_without_other_clips_or_that_is_broken_is_named(parallel, extractor, tmp_path, caplog):
    child = [clip for clip in parallel if clip.speaker == "child"]
    reason = r"child/0\.wav \(there are only 0\.0 s of its speaker's other clips\)"
    with pytest.raises(ValueError, match=f"none of 1 clips can be used; the first: {reason}"):
        list(prematch(child, tmp_path / "none", extractor, ssl_analysis(extractor), config=PLAIN))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    broken = [clip._replace(source=tmp_path / "bad.wav") if clip.key == "man/0.wav" else clip for clip in parallel]
    caplog.clear()
    done = list(prematch(broken, tmp_path / "pre", extractor, ssl_analysis(extractor), config=PLAIN))
    assert len(done) == 5 and "2 clips left out: child/0.wav (there" in caplog.text
    assert "man/0.wav (Error opening" in caplog.text


def test_frames_of_other_sources_are_not_gone_on_with(parallel, extractor, tmp_path):
    analysis, plain = ssl_analysis(extractor), [clip._replace(source=None) for clip in parallel]
    list(prematch(plain, tmp_path / "pre", extractor, analysis, config=PLAIN))
    made_of = json.loads((tmp_path / "pre" / "made_of.json").read_text(encoding="utf-8"))
    assert made_of == json.loads(json.dumps([dict(analysis.feature_spec), vars(PLAIN)]))  # as before there were any
    with pytest.raises(ValueError, match="its contents were made with other settings; remove it, or choose another"):
        list(prematch(parallel, tmp_path / "pre", extractor, analysis, config=PLAIN))


def test_parallel_clips_are_sources_of_each_other():
    clips = [Clip(f"{key}.wav", Path(f"/{key}.wav"), 2.0, key[0], sentence=key[1:]) for key in ("a1", "b1", "c1", "a2")]
    clips += [Clip("d.wav", Path("/d.wav"), 2.0, "d"), Clip("e1.wav", Path("/e1.wav"), 3.0, "e", sentence="1")]
    sources = {seed: [clip.source for clip in draw_sources(clips, seed=seed)] for seed in range(20)}
    assert {of[0] for of in sources.values()} == {Path("/b1.wav"), Path("/c1.wav")}
    assert {of[1] for of in sources.values()} == {Path("/a1.wav"), Path("/c1.wav")}
    assert all(of[3:] == [None] * 3 for of in sources.values())  # no other voice, no sentence, another duration
    assert draw_sources(clips) == draw_sources(clips) and draw_sources(clips, 0.0) == clips
    mine = [clips[0]._replace(source=Path("/mine.wav")), *clips[1:]]
    assert draw_sources(mine)[0] == mine[0]
    some = [sum(clip.source is not None for clip in draw_sources(clips, 0.5, seed)) for seed in range(40)]
    assert 40 < sum(some) < 80
    with pytest.raises(ValueError, match="parallel is 2; it is a share"):
        draw_sources(clips, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neighbours": (0, 3)}, "neighbours goes from 0 to 3; give two ascending numbers of at least 1"),
        ({"neighbours": (4, 2)}, "neighbours goes from 4 to 2"),
        ({"blend": (-0.1, 1.0)}, "blend goes from -0.1 to 1.0"),
        ({"reference": (1.0, 3.0)}, "numbers of at least 5"),
        ({"mixed": 1.5}, "mixed is 1.5; it is a share, from 0 to 1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PrematchConfig(**settings)


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_the_command(recordings, extractor, tmp_path, capsys):
    encoder = tmp_path / "encoder"
    SpeechEncoder(EncoderConfig.tiny(**SMALL)).save_pretrained(encoder)
    order = ("prematch", recordings, "-o", tmp_path / "pre", "--model", encoder, "--k", 2, 4, "--leave-out", "child")
    assert run(*order, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["clips"] == 6 and told["output"] == str(tmp_path / "pre" / "clips.tsv")
    assert told["hours"] == pytest.approx(24 / 3600, abs=1e-3)
    with (tmp_path / "pre" / "clips.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert {row["speaker"] for row in rows} == {"man", "woman"}
    assert run(*order) == 0
    assert "6 clips, 0.01 h of frames with 275 dimensions" in capsys.readouterr().out
    assert run("prematch", recordings, "-o", tmp_path / "pre", "--model", encoder, "--features", "ssl") == 1
    assert "were made with other settings" in capsys.readouterr().err
    assert run("prematch", recordings, "-o", recordings / "man" / "0.wav") == 2
    assert run("prematch", tmp_path / "nowhere", "-o", tmp_path / "x") == 1
    assert "there are no clips at" in capsys.readouterr().err


@pytest.mark.parametrize("away", ["absolute", "above"])
def test_frames_stay_in_their_folder_wherever_the_clips_are(recordings, extractor, tmp_path, away):
    """Two clips of one name, listed by absolute paths or from above, are kept apart, and nothing is put beside them."""
    before = sorted(recordings.rglob("*"))
    files = [recordings / speaker / "0.wav" for speaker in ("man", "woman")]
    listed = [path if away == "absolute" else Path(os.path.relpath(path, tmp_path)) for path in files]
    table = tmp_path / "listed.tsv"
    table.write_text("path\n" + "".join(f"{path}\n" for path in listed), encoding="utf-8")
    done = list(prematch(read_manifest(table), tmp_path / "pre", extractor, ssl_analysis(extractor)))
    assert len(done) == 2 and sorted(recordings.rglob("*")) == before
    clips = find_clips(tmp_path / "pre" / "clips.tsv")
    assert len({clip.frames for clip in clips}) == 2
    assert all(clip.audio.is_file() and clip.frames.resolve().parent == tmp_path / "pre" for clip in clips)
