"""Unit codec: analysis, frames, F0 codes, decoding in any voice, and training."""

import csv
import json
import math
from dataclasses import replace

import pytest
import soundfile
import torch
from torch.nn.functional import normalize

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.labels.kmeans import KMeans
from pretrain.labels.kmeans_labels import KMeansLabels
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.copysynth import copy_synthesis
from ssl_vc.evaluate.pairs import Pair
from ssl_vc.evaluate.systems import UnitSystem
from ssl_vc.features.disentangled import DisentangledAnalysis, disentangled_layout, interpolated_log_f0
from ssl_vc.features.extractor import Extractor
from ssl_vc.units import f0_codes
from ssl_vc.units.analyzer import UnitAnalyzer, analyze
from ssl_vc.units.codebook import Codebook, run_length_encode
from ssl_vc.units.codec import UnitCodec
from ssl_vc.units.file import Units
from ssl_vc.units.prosody import ProsodyPredictor
from vocoder.pitch import track_pitch, voiced_median
from vocoder.vocos import Vocos, VocosConfig

RATE, CLUSTERS, PITCHES = 16_000, 12, 8
SMALL = {"conv_dim": 16, "dim": 32, "depth": 2, "heads": 4, "ffn_dim": 64, "matching_layer": 2}
WOMAN = {"pitch": 210.0, "size": 1.2}


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["pure", "beside cepstra"])
def extractor(request):
    torch.manual_seed(0)
    return Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=request.param)).eval())


@pytest.fixture(scope="module")
def codebook(extractor, speech):
    features = [analyze(DisentangledAnalysis(extractor), speech(8, text=text)) for text in range(3)]
    torch.manual_seed(0)
    return Codebook(
        KMeans.fit(torch.cat([each.content for each in features]), CLUSTERS),
        KMeans.fit(torch.cat([f0_codes.f0_blocks(each.f0) for each in features]), PITCHES),
        ProsodyPredictor(CLUSTERS),
        features[0].timbre,
        {"encoder": extractor.spec.encoder, "layer": 2},
    )


@pytest.fixture(scope="module")
def codec(extractor, codebook):
    analyzer = UnitAnalyzer(extractor, codebook)
    made = analyzer.feature_spec
    torch.manual_seed(0)
    shape = VocosConfig(dim=made["dim"], width=16, ffn_dim=32, depth=1, harmonic=True, reads=made)
    return UnitCodec(analyzer, Vocos(shape).eval())


@pytest.fixture(scope="module")
def vc(extractor):
    made = DisentangledAnalysis(extractor).feature_spec
    torch.manual_seed(0)
    shape = VocosConfig(dim=made["dim"], width=16, ffn_dim=32, depth=1, harmonic=True, reads=made)
    return VoiceConverter(extractor, "knn", Vocos(shape).eval())


@pytest.fixture(scope="module")
def anna(vc, speech):
    return vc.enroll((speech(8, text=1, **WOMAN), RATE), "anna")


@pytest.fixture(scope="module")
def source(speech):
    return speech(3, text=2)[:-100]


def frames_given_to(vocoder, monkeypatch):
    """Record the frames that a vocoder is given."""
    given, generate = [], vocoder.generate
    monkeypatch.setattr(vocoder, "generate", lambda rows: given.append(rows[0]) or generate(rows))
    return given


# ---- frames


def test_the_parts_of_a_frame(extractor, codebook, source):
    analyzer = UnitAnalyzer(extractor, codebook)
    frames, features = torch.cat(list(analyzer(source))), analyzer.analyze(source)
    assert frames.shape == (150, 2 + CLUSTERS + 80) == (150, analyzer.feature_spec["dim"])
    assert torch.equal(frames[:, 1] > 0, features.f0 > 0)
    torch.testing.assert_close(frames[:, 0], interpolated_log_f0(features.f0))
    units = frames[:, 2 : 2 + CLUSTERS]
    assert torch.equal(units.sum(1), torch.ones(150)) and bool(((units == 0) | (units == 1)).all())
    nearest = torch.cdist(features.content, codebook.content.centres).argmin(1)
    assert torch.equal(units.argmax(1), nearest)
    torch.testing.assert_close(features.content.norm(dim=1), torch.ones(150))
    analysis = DisentangledAnalysis(extractor)
    disentangled, layout = torch.cat(list(analysis(source))), disentangled_layout(analysis.feature_spec)
    assert torch.equal(frames[:, -80:], disentangled[:, -80:])
    torch.testing.assert_close(features.content, normalize(disentangled[:, layout.content], dim=1))


def test_soft_units_are_a_softmax_over_near_centres(extractor, codebook, source):
    analyzer = UnitAnalyzer(extractor, codebook)
    features = analyzer.analyze(source)
    shares = analyzer.soft_units(features.content)
    torch.testing.assert_close(shares.sum(1), torch.ones(150))
    assert torch.equal(shares.argmax(1), codebook.content(features.content))
    assert float(shares.max(1).values.mean()) < 0.999
    assert torch.equal(analyzer.frames(shares, features.f0, features.timbre)[:, 2 : 2 + CLUSTERS], shares)


# ---- F0 codes


@pytest.fixture(scope="module")
def track(speech):
    return track_pitch(speech(6, text=3))


def test_codes_per_block(track):
    codes = KMeans.fit(f0_codes.f0_blocks(track), 40)
    numbers = f0_codes.encode_blocks(track, codes)
    assert len(numbers) == -(-len(track) // 4)
    again = f0_codes.decode_blocks(numbers, codes, voiced_median(track), len(track))
    assert again.shape == track.shape
    assert float(((again > 0) == (track > 0)).float().mean()) > 0.95
    both = (again > 0) & (track > 0)
    assert float((again / track)[both].log().abs().mean()) < 0.02
    higher = f0_codes.decode_blocks(numbers, codes, 2 * voiced_median(track), len(track))
    torch.testing.assert_close(higher, 2 * again)


def test_codes_per_frame(track):
    again = f0_codes.decode_frames(f0_codes.encode_frames(track))
    assert torch.equal(again > 0, track > 0)
    assert float((again / track)[track > 0].log().abs().max()) < 0.006  # a tenth of a semitone
    assert f0_codes.encode_frames(torch.tensor([0.0, 50.0, 600.0, 1e4])).tolist() == [0, 1, 255, 255]


def test_codes_per_run():
    lengths = torch.tensor([2, 3, 4])
    track = torch.tensor([100.0, 100.0, 0.0, 0.0, 0.0, 200.0, 200.0, 200.0, 200.0])
    height, voiced = f0_codes.decode_runs(f0_codes.encode_runs(track, lengths, 20), 20)
    assert voiced.tolist() == [True, False, True]
    assert float(height[0]) == pytest.approx(math.log(0.5), abs=0.04)
    assert float(height[2]) == pytest.approx(0, abs=0.04)


def test_codes_of_an_unvoiced_track():
    track = torch.zeros(10)
    assert voiced_median(track) == 150
    codes = KMeans.fit(torch.cat([f0_codes.f0_blocks(track), f0_codes.f0_blocks(track + 100.0)]), 2)
    assert not f0_codes.decode_blocks(f0_codes.encode_blocks(track, codes), codes, 150.0, 10).any()
    assert not f0_codes.decode_frames(f0_codes.encode_frames(track)).any()


# ---- encoding and decoding


def test_a_file_round_trip_keeps_the_frames(codec, source, tmp_path, monkeypatch):
    """Units and F0 per frame lose nothing but quantisation."""
    units = codec.encode(source, layout="frames", pitch="bytes")
    again = Units.load(units.save(tmp_path / "a.units"))
    given = frames_given_to(codec.vocoder, monkeypatch)
    wav = codec.decode(again)
    assert len(wav) == len(source) and bool(wav.isfinite().all())
    own = torch.cat(list(codec.analyzer(source)))
    frames = given[0][:, : own.shape[1]]
    assert torch.equal(frames[:, 1 : 2 + CLUSTERS], own[:, 1 : 2 + CLUSTERS])
    assert float((frames[:, 0] - own[:, 0]).abs().max()) < 0.012  # half a step, and half of one of the median
    torch.testing.assert_close(frames[:, -80:], own[:, -80:], atol=0.01, rtol=0.01)


@pytest.mark.parametrize("pitch", ["codes", "bytes", "none"])
@pytest.mark.parametrize("layout", ["frames", "runs", "ids"])
def test_every_layout_keeps_the_length(codec, source, layout, pitch):
    units = Units.from_bytes(codec.encode(source, layout=layout, pitch=pitch).to_bytes())
    ids, track = codec.expand(units, 200.0)
    assert len(ids) == len(track) == units.frames == 150
    assert len(codec.decode(units)) == len(source)
    whole = codec.encode(source, layout="frames", pitch=pitch)
    if layout == "runs":
        assert torch.equal(ids, whole.ids)
        assert all(torch.equal(one, other) for one, other in zip((ids, track), codec.expand(whole, 200.0), strict=True))
    if layout == "ids":
        assert torch.equal(run_length_encode(ids)[0], run_length_encode(whole.ids)[0])
    if pitch != "none":
        assert voiced_median(track) == pytest.approx(200, rel=0.1)


def test_the_target_voice(codec, anna, source, monkeypatch, median_pitch):
    units = codec.encode(source, layout="frames", pitch="bytes")
    nobody = codec.encode(source, layout="frames", pitch="bytes", voice=False)
    assert nobody.timbre is None and len(nobody.to_bytes()) == len(units.to_bytes()) - 162
    given = frames_given_to(codec.vocoder, monkeypatch)
    for which, voice, semitones in ((units, None, 0), (units, anna, 0), (nobody, anna, 12), (nobody, None, 0)):
        codec.decode(which, voice, pitch=semitones)
    own, hers, higher, plain = (rows[:, : codec.vocoder.dim] for rows in given)
    assert torch.equal(own[:, 2 : 2 + CLUSTERS], hers[:, 2 : 2 + CLUSTERS])
    torch.testing.assert_close(own[0, -80:], codec.analyzer.analyze(source).timbre, atol=0.01, rtol=0.01)
    torch.testing.assert_close(hers[0, -80:], anna.synthesis[:, -80:].float().mean(0))
    assert torch.equal(plain[0, -80:], codec.codebook.timbre)
    median = [float(rows[rows[:, 1] > 0, 0].median().exp()) for rows in (own, hers, higher, plain)]
    wanted = [median_pitch(source), anna.pitch.median, 2 * anna.pitch.median, 150.0]
    assert median == pytest.approx(wanted, rel=0.02)


def test_unit_selection(codec, vc, anna, source, monkeypatch):
    units = codec.encode(source, layout="frames", pitch="bytes", voice=False)
    given = frames_given_to(vc.vocoder, monkeypatch)
    wav = codec.select(units, anna, vc.vocoder, k=1)
    assert len(wav) == len(source)
    frames, parts = given[0][:, : vc.vocoder.dim], disentangled_layout(vc.vocoder.reads)
    pool = anna.synthesis.float()
    far = torch.cdist(frames[:, parts.envelope], pool[:, parts.envelope])
    assert float(far.min(1).values.max()) < 0.1  # each is one of hers; others are 5 and more away
    theirs = codec.codebook.content(normalize(pool[far.argmin(1)][:, parts.content], dim=1))
    assert float((theirs == units.ids).float().mean()) > 0.8  # and says the same, where she ever does
    voiced = frames[:, parts.voicing][:, 0] > 0
    assert float(frames[voiced, parts.pitch].median().exp()) == pytest.approx(anna.pitch.median, rel=0.02)


@pytest.mark.parametrize("name", ["units", "units-frames", "units:ids:none"])
def test_an_evaluation_by_units(codec, vc, speech, tmp_path, name):
    soundfile.write(tmp_path / "clip.wav", speech(2, text=2).numpy(), RATE)
    system = UnitSystem(name, codec, vc)
    system.enroll("anna", [speech(8, text=1, **WOMAN)])
    sound = system(Pair("one", tmp_path / "clip.wav", "anna"))
    assert len(sound.wav) == 2 * RATE and sound.sample_rate == RATE
    assert "12 units" in system.description and system.size_mb > 0
    units = codec.encode(tmp_path / "clip.wav", **({"layout": "ids", "pitch": "none"} if ":" in name else {}))
    if name != "units-frames":
        torch.testing.assert_close(sound.wav, codec.decode(units, system.voices["anna"]))
    with pytest.raises(ValueError, match="'units:song' has the option 'song'; possible are frames, runs, ids, codes"):
        UnitSystem("units:song", codec, vc)
    with pytest.raises(ValueError, match="'units:ids:runs' has contradictory options"):
        UnitSystem("units:ids:runs", codec, vc)


def test_what_does_not_fit_is_refused(codec, vc, anna, source, extractor, codebook, tmp_path):
    units = codec.encode(source)
    other = Codebook(
        KMeans(codebook.content.centres + 0.01),
        codebook.pitch,
        codebook.prosody,
        codebook.timbre,
        codebook.encoder_spec,
    )
    assert other.fingerprint != codebook.fingerprint
    other_codec = replace(units, codec="0" * 16)
    with pytest.raises(ValueError, match=f"belong to the codec {'0' * 16}, and this one is {codebook.fingerprint}"):
        codec.decode(other_codec)
    with pytest.raises(ValueError, match="units of this codec does not fit this vocoder"):
        UnitCodec(UnitAnalyzer(extractor, other), codec.vocoder)
    torch.manual_seed(1)
    foreign = Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL)).eval())
    with pytest.raises(ValueError, match="these units belong to the encoder"):
        UnitAnalyzer(foreign, codebook)
    with pytest.raises(ValueError, match="has no disentangled frames of this encoder"):
        codec.decode(units, VoiceConverter(extractor, "knn", vocoder_of(extractor)).enroll((source, RATE), "bert"))
    with pytest.raises(ValueError, match="pitch is 'sung'; possible are codes, bytes, none"):
        codec.encode(source, pitch="sung")
    (tmp_path / "book.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="is not a codebook of ssl-vc"):
        UnitCodec.from_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="there is no codec at 'nowhere'"):
        UnitCodec.from_pretrained("nowhere")


def vocoder_of(extractor):
    """A vocoder that reads the matched frames themselves."""
    spec = extractor.spec
    return Vocos(VocosConfig(dim=spec.dim, width=16, ffn_dim=32, depth=1, reads=spec.feature_spec)).eval()


def test_a_codebook_on_disk(codebook, tmp_path):
    codebook.save(tmp_path / "book.safetensors")
    again = Codebook.load(tmp_path / "book.safetensors")
    assert again.fingerprint == codebook.fingerprint and again.encoder_spec == codebook.encoder_spec
    runs = torch.tensor([1, 2, 3, 4, 5])
    torch.testing.assert_close(again.prosody(runs[None]), codebook.prosody(runs[None]), atol=0.02, rtol=0.02)


# ---- training


def test_prosody_is_learned_from_context():
    """Unit 0 lasts 3 frames and is voiced; 1 lasts 8 and is not; 2 is high behind 0 and low behind 1."""
    torch.manual_seed(0)
    ids = torch.randint(0, 3, (16, 40))
    lengths = torch.tensor([3, 8, 4])[ids]
    before = torch.cat([ids[:, :1], ids[:, :-1]], 1)
    height = torch.where(ids == 2, torch.where(before == 0, 0.3, -0.3), 0.0)
    prosody = ProsodyPredictor(3)
    optimizer = torch.optim.AdamW(prosody.parameters(), 3e-3)
    for _ in range(150):
        loss = prosody.loss(ids, lengths, (ids != 1).float(), height)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predicted = prosody.predict(torch.tensor([0, 2, 1, 2, 0, 1]))
    assert predicted.durations.tolist()[:-1] == [3, 4, 8, 4, 3]  # the last one is trained least often
    assert predicted.voiced.tolist() == [True, True, False, True, True, False]
    assert float(predicted.log_f0[1]) == pytest.approx(0.3, abs=0.1)
    assert float(predicted.log_f0[3]) == pytest.approx(-0.3, abs=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, speech):
    """A folder of recordings, and the run of `train-units` on them."""
    from ssl_vc.cli import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "clips" / "man").mkdir(parents=True)
    for number in range(4):
        soundfile.write(folder / "clips" / "man" / f"{number}.wav", speech(3, text=number).numpy(), RATE)
    (folder / "clips" / "broken.wav").write_bytes(b"no sound")
    torch.manual_seed(0)
    SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=0.5)).save_pretrained(folder / "encoder")
    (folder / "units.yaml").write_text(
        "clusters: 8\npitches: 5\nsoft: 0.5\nprosody_steps: 3\nvocoder:\n  shape: {width: 16, ffn_dim: 32, depth: 1, "
        "harmonic: true}\n  segment: 40\n  batch: 2\n  steps: 2\n  adversarial_from: 9\n  half: true\n"
    )
    settings = [f"clips={folder / 'clips'}", f"encoder={folder / 'encoder'}"]
    with pytest.raises(SystemExit) as stop:
        main(["train-units", str(folder / "units.yaml"), "-o", str(folder / "run"), *settings])
    assert stop.value.code == 0
    return folder, settings


def test_training_makes_a_codec(trained, source):
    folder, _ = trained
    with (folder / "run" / "frames" / "clips.tsv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file, delimiter="\t"))) == 4
    codec = UnitCodec.from_pretrained(str(folder / "run" / "codec"), encoder=str(folder / "encoder"))
    assert codec.codebook.clusters == 8 and codec.codebook.pitch.clusters == 5
    assert len(codec.decode(codec.encode(source))) == len(source)


def test_a_unit_hifigan_is_trained_on_numbers(trained, run, source):
    """A HiFi-GAN behind embeddings reads the unit's number, F0 and the voice, and speaks the same files."""
    folder, settings = trained
    (folder / "hifigan.yaml").write_text(
        "clusters: 8\npitches: 5\nsoft: 0.5\nprosody_steps: 3\nvocoder:\n  vocoder: unit-hifigan\n"
        "  shape: {channels: 32, unit_dim: 8, pitch_dim: 8, speaker_dim: 8}\n"
        "  segment: 40\n  batch: 2\n  steps: 2\n  adversarial_from: 9\n"
    )
    assert run("train-units", folder / "hifigan.yaml", "-o", folder / "hifigan", *settings)[0] == 0
    codec = UnitCodec.from_pretrained(folder / "hifigan" / "codec", encoder=str(folder / "encoder"))
    assert codec.vocoder.config.units == 8 and codec.vocoder.config.speaker_vector == 80
    units = codec.encode(source, layout="frames", pitch="bytes")
    frames = codec.frames(units)
    assert frames.shape == (150, 82)
    assert torch.equal(frames[:, 0].long(), units.ids) and torch.equal(frames[:, 1] > 0, units.pitch > 0)
    assert len(codec.decode(units)) == len(source)
    shares = UnitCodec.from_pretrained(folder / "run" / "codec", encoder=str(folder / "encoder"))
    assert torch.equal(shares.codebook.content.centres, codec.codebook.content.centres)


def test_units_may_be_the_clusters_of_labels(trained, run, source):
    """`ssl-vc label` clusters the same content, so its numbers are the codec's ids, but at the very ends."""
    folder, settings = trained
    clips, encoder = folder / "clips" / "man", str(folder / "encoder")
    settings = [f"clips={clips}", f"encoder={encoder}"]
    label = ("label", clips, "--of", encoder, "--layer", 2, "--clusters", 8, "--hours", 1, "-o")
    assert run(*label, folder / "labels", "--less-mean")[0] == 0
    order = ("train-units", folder / "units.yaml", "-o", folder / "labelled", *settings, f"labels={folder / 'labels'}")
    assert run(*order)[0] == 0
    codec = UnitCodec.from_pretrained(folder / "labelled" / "codec", encoder=encoder)
    labels = KMeansLabels.open(folder / "labels")
    assert torch.equal(codec.codebook.content.centres, labels.kmeans.centres)
    key = labels.keys[0]
    ids = codec.encode(clips / key, layout="frames").ids[: len(labels[key])]
    assert float((ids == torch.from_numpy(labels[key])).float().mean()) > 0.9
    assert run(*label, folder / "raw")[0] == 0  # with the clips' mean
    status, _, err = run(*order[:3], folder / "other", *settings, f"labels={folder / 'raw'}")
    assert status == 1 and "these units take 8 of" in err


def test_copy_synthesis_by_units(trained, source):
    folder, _ = trained
    options = {"weights": folder / "run" / "codec", "encoder": str(folder / "encoder")}
    codec = UnitCodec.from_pretrained(folder / "run" / "codec", encoder=str(folder / "encoder"))
    copy = copy_synthesis(source, "units", "vocos", **options)
    torch.testing.assert_close(copy, codec.decode(codec.encode(source), loudness=None), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r"no units with a unit-hifigan were given.*train-units configs/"):
        copy_synthesis(source, "units", "unit-hifigan", **options)


def test_training_resumes_and_refuses(trained, run):
    folder, settings = trained
    order = ("train-units", folder / "units.yaml", "-o", folder / "run", *settings)
    codebook = (folder / "run" / "book.safetensors").read_bytes()
    status, _, err = run(*order)
    assert status == 1 and "holds a training; resume it with --resume" in err
    status, _, err = run(*order, "--resume", "vocoder.steps=3")
    assert status == 0 and "done: step 3" in err
    assert (folder / "run" / "book.safetensors").read_bytes() == codebook
    status, _, err = run(*order, "--resume", "clusters=9")
    assert status == 1 and "were made with other settings" in err
    for setting, problem in (
        ("clusters=1", "clusters is 1; possible are 2"),
        ("soft=2", "soft is 2.0; it must be between 0 and 1"),
        ("vocoder.features=mel", "vocoder.features is set"),
        ("clips=", "no training data"),
    ):
        status, _, err = run(*order[:3], folder / "other", *settings, setting)
        assert status == 2 and problem in err
    status, _, err = run(*order[:3], folder / "other", *settings, "vocoder.colour=red")
    assert status == 1 and "vocoder has an unknown setting" in err


@pytest.mark.parametrize("place", ["codec", "codec/vocoder", "vocoder/pack"])
def test_files_of_others_are_kept(trained, run, tmp_path, place):
    folder, settings = trained
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "thesis.txt").write_text("years")
    status, _, err = run("train-units", folder / "units.yaml", "-o", tmp_path, *settings)
    assert (tmp_path / place / "thesis.txt").read_text() == "years"
    assert status == 1 and "would be replaced, but this training did not write" in err
    assert not (tmp_path / "vocoder" / "state.pt").exists()  # refused before the training


def test_the_commands(trained, run, tmp_path, source):
    folder, _ = trained
    soundfile.write(tmp_path / "clip.wav", source.numpy(), RATE)
    model = ("--codec", folder / "run" / "codec", "--model", folder / "encoder")
    order = ("units", "encode", tmp_path / "clip.wav", "-o", tmp_path / "clip.units", *model)
    status, out, _ = run(*order, "--json")
    facts = json.loads(out)
    assert status == 0 and facts["clusters"] == 8 and facts["layout"] == "runs"
    assert facts["bytes"] == (tmp_path / "clip.units").stat().st_size
    status, _, err = run(*order)
    assert status == 1 and "exists; --force overwrites it" in err
    assert run(*order, "--layout", "ids", "--pitch", "none", "--no-voice", "--force")[0] == 0
    assert (tmp_path / "clip.units").stat().st_size < facts["bytes"]
    status, out, _ = run("units", "info", tmp_path / "clip.units")
    assert status == 0 and "units of 8, ids; bits per second: content" in out
    sound = tmp_path / "again.wav"
    assert run("units", "decode", tmp_path / "clip.units", "-o", sound, *model) == (0, f"{sound}: 2.99 s\n", "")
    assert soundfile.info(sound).frames == len(source)
    status, _, err = run("units", "decode", tmp_path / "clip.wav", "-o", sound, *model, "--force")
    assert status == 1 and "is not a .units file" in err
    status, _, err = run("units", "decode", tmp_path / "clip.units", "-o", sound, *model, "--own-frames", "--force")
    assert status == 2 and "--unit-selection requires --voice" in err
    assert "--own-frames" not in run("units", "decode", "--help")[1]  # its former name, as above
