"""Units: what is heard, what a vocoder gets of it, whose voice it is, and how all of that is learned."""

import csv
import json
import math

import pytest
import soundfile
import torch
from torch.nn.functional import normalize

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.labels.kmeans import KMeans
from pretrain.labels.labels import Labels
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.copysynth import copy_synthesis
from ssl_vc.evaluate.pairs import Pair
from ssl_vc.evaluate.systems import ByUnits
from ssl_vc.features.disentangled import Speech, parts_of, through_unvoiced
from ssl_vc.features.extractor import Extractor
from ssl_vc.units import melody
from ssl_vc.units.book import Book, runs_of
from ssl_vc.units.codec import UnitCodec
from ssl_vc.units.file import Units
from ssl_vc.units.prosody import Prosody
from ssl_vc.units.speech import UnitSpeech, hear
from vocoder.pitch import level_of, track_pitch
from vocoder.vocos import Vocos, VocosConfig

RATE, CLUSTERS, PITCHES = 16_000, 12, 8
SMALL = {"conv_dim": 16, "dim": 32, "depth": 2, "heads": 4, "ffn_dim": 64, "matching_layer": 2}
WOMAN = {"pitch": 210.0, "size": 1.2}


@pytest.fixture(scope="module", params=[0.0, 0.5], ids=["pure", "beside cepstra"])
def extractor(request):
    torch.manual_seed(0)
    return Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=request.param)).eval())


@pytest.fixture(scope="module")
def book(extractor, speech):
    heard = [hear(Speech(extractor), speech(8, text=text)) for text in range(3)]
    torch.manual_seed(0)
    return Book(
        KMeans.fit(torch.cat([each.content for each in heard]), CLUSTERS),
        KMeans.fit(torch.cat([melody.blocks(each.pitch) for each in heard]), PITCHES),
        Prosody(CLUSTERS),
        heard[0].timbre,
        {"encoder": extractor.spec.encoder, "layer": 2},
    )


@pytest.fixture(scope="module")
def codec(extractor, book):
    unit_speech = UnitSpeech(extractor, book)
    made = unit_speech.made_by
    torch.manual_seed(0)
    shape = VocosConfig(dim=made["dim"], width=16, ffn_dim=32, depth=1, harmonic=True, reads=made)
    return UnitCodec(unit_speech, Vocos(shape).eval())


@pytest.fixture(scope="module")
def vc(extractor):
    made = Speech(extractor).made_by
    torch.manual_seed(0)
    shape = VocosConfig(dim=made["dim"], width=16, ffn_dim=32, depth=1, harmonic=True, reads=made)
    return VoiceConverter(extractor, "knn", Vocos(shape).eval())


@pytest.fixture(scope="module")
def anna(vc, speech):
    return vc.enroll((speech(8, text=1, **WOMAN), RATE), "anna")


@pytest.fixture(scope="module")
def source(speech):
    return speech(3, text=2)[:-100]


def given_to(vocoder, monkeypatch):
    """Record what a vocoder makes sound of."""
    given, generate = [], vocoder.generate
    monkeypatch.setattr(vocoder, "generate", lambda rows: given.append(rows[0]) or generate(rows))
    return given


# ---- what is in a frame


def test_what_is_in_a_frame(extractor, book, source):
    makes = UnitSpeech(extractor, book)
    frames, heard = torch.cat(list(makes(source))), makes.hear(source)
    assert frames.shape == (150, 2 + CLUSTERS + 80) == (150, makes.made_by["dim"])
    assert torch.equal(frames[:, 1] > 0, heard.pitch > 0)
    torch.testing.assert_close(frames[:, 0], through_unvoiced(heard.pitch))
    units = frames[:, 2 : 2 + CLUSTERS]
    assert torch.equal(units.sum(1), torch.ones(150)) and bool(((units == 0) | (units == 1)).all())
    nearest = torch.cdist(heard.content, book.content.centres).argmin(1)
    assert torch.equal(units.argmax(1), nearest)
    torch.testing.assert_close(heard.content.norm(dim=1), torch.ones(150))
    (spoken,) = (
        Speech(extractor)(source) if not extractor.spec.cepstra else [torch.cat(list(Speech(extractor)(source)))]
    )
    assert torch.equal(frames[:, -80:], spoken[:, -80:])
    torch.testing.assert_close(heard.content, normalize(spoken[:, parts_of(Speech(extractor).made_by).content], dim=1))


def test_soft_units_are_shares_of_what_is_near(extractor, book, source):
    makes = UnitSpeech(extractor, book)
    heard = makes.hear(source)
    shares = makes.shares(heard.content)
    torch.testing.assert_close(shares.sum(1), torch.ones(150))
    assert torch.equal(shares.argmax(1), book.content(heard.content))
    assert float(shares.max(1).values.mean()) < 0.999
    assert torch.equal(makes.frames(shares, heard.pitch, heard.timbre)[:, 2 : 2 + CLUSTERS], shares)


# ---- melodies


@pytest.fixture(scope="module")
def track(speech):
    return track_pitch(speech(6, text=3))


def test_a_melody_by_codes(track):
    codes = KMeans.fit(melody.blocks(track), 40)
    numbers = melody.coded(track, codes)
    assert len(numbers) == -(-len(track) // 4)
    again = melody.from_codes(numbers, codes, level_of(track), len(track))
    assert again.shape == track.shape
    assert float(((again > 0) == (track > 0)).float().mean()) > 0.95
    both = (again > 0) & (track > 0)
    assert float((again / track)[both].log().abs().mean()) < 0.02
    higher = melody.from_codes(numbers, codes, 2 * level_of(track), len(track))
    torch.testing.assert_close(higher, 2 * again)


def test_a_melody_by_bytes(track):
    again = melody.from_bytes(melody.to_bytes(track))
    assert torch.equal(again > 0, track > 0)
    assert float((again / track)[track > 0].log().abs().max()) < 0.006  # a tenth of a semitone
    assert melody.to_bytes(torch.tensor([0.0, 50.0, 600.0, 1e4])).tolist() == [0, 1, 255, 255]


def test_a_melody_by_runs():
    lengths = torch.tensor([2, 3, 4])
    track = torch.tensor([100.0, 100.0, 0.0, 0.0, 0.0, 200.0, 200.0, 200.0, 200.0])
    height, voiced = melody.from_run_codes(melody.coded_runs(track, lengths, 20), 20)
    assert voiced.tolist() == [True, False, True]
    assert float(height[0]) == pytest.approx(math.log(0.5), abs=0.04)
    assert float(height[2]) == pytest.approx(0, abs=0.04)


def test_a_melody_without_a_voice():
    track = torch.zeros(10)
    assert level_of(track) == 150
    codes = KMeans.fit(torch.cat([melody.blocks(track), melody.blocks(track + 100.0)]), 2)
    assert not melody.from_codes(melody.coded(track, codes), codes, 150.0, 10).any()
    assert not melody.from_bytes(melody.to_bytes(track)).any()


# ---- there and back


def test_a_file_says_what_was_heard(codec, source, tmp_path, monkeypatch):
    """Units by frame and pitch by byte lose nothing but what quantising loses."""
    units = codec.encode(source, layout="frames", pitch="bytes")
    again = Units.load(units.save(tmp_path / "a.units"))
    given = given_to(codec.vocoder, monkeypatch)
    wav = codec.decode(again)
    assert len(wav) == len(source) and bool(wav.isfinite().all())
    own = torch.cat(list(codec.speech(source)))
    heard = given[0][:, : own.shape[1]]
    assert torch.equal(heard[:, 1 : 2 + CLUSTERS], own[:, 1 : 2 + CLUSTERS])
    assert float((heard[:, 0] - own[:, 0]).abs().max()) < 0.012  # half a step, and half of one of the median
    torch.testing.assert_close(heard[:, -80:], own[:, -80:], atol=0.01, rtol=0.01)


@pytest.mark.parametrize("pitch", ["codes", "bytes", "none"])
@pytest.mark.parametrize("layout", ["frames", "runs", "ids"])
def test_every_layout_is_as_long_as_the_sound(codec, source, layout, pitch):
    units = Units.from_bytes(codec.encode(source, layout=layout, pitch=pitch).to_bytes())
    ids, track = codec.told(units, 200.0)
    assert len(ids) == len(track) == units.frames == 150
    assert len(codec.decode(units)) == len(source)
    whole = codec.encode(source, layout="frames", pitch=pitch)
    if layout == "runs":
        assert torch.equal(ids, whole.ids)
        assert all(torch.equal(one, other) for one, other in zip((ids, track), codec.told(whole, 200.0), strict=True))
    if layout == "ids":
        assert torch.equal(runs_of(ids)[0], runs_of(whole.ids)[0])
    if pitch != "none":
        assert level_of(track) == pytest.approx(200, rel=0.1)


def test_whose_voice_it_is(codec, anna, source, monkeypatch, median_pitch):
    units = codec.encode(source, layout="frames", pitch="bytes")
    nobody = codec.encode(source, layout="frames", pitch="bytes", voice=False)
    assert nobody.timbre is None and len(nobody.to_bytes()) == len(units.to_bytes()) - 162
    given = given_to(codec.vocoder, monkeypatch)
    for which, voice, semitones in ((units, None, 0), (units, anna, 0), (nobody, anna, 12), (nobody, None, 0)):
        codec.decode(which, voice, pitch=semitones)
    own, hers, higher, plain = (rows[:, : codec.vocoder.dim] for rows in given)
    assert torch.equal(own[:, 2 : 2 + CLUSTERS], hers[:, 2 : 2 + CLUSTERS])
    torch.testing.assert_close(own[0, -80:], codec.speech.hear(source).timbre, atol=0.01, rtol=0.01)
    torch.testing.assert_close(hers[0, -80:], anna.synthesis[:, -80:].float().mean(0))
    assert torch.equal(plain[0, -80:], codec.book.timbre)
    median = [float(rows[rows[:, 1] > 0, 0].median().exp()) for rows in (own, hers, higher, plain)]
    wanted = [median_pitch(source), anna.pitch.median, 2 * anna.pitch.median, 150.0]
    assert median == pytest.approx(wanted, rel=0.02)


def test_the_voices_own_frames_are_chosen(codec, vc, anna, source, monkeypatch):
    units = codec.encode(source, layout="frames", pitch="bytes", voice=False)
    given = given_to(vc.vocoder, monkeypatch)
    wav = codec.select(units, anna, vc.vocoder, k=1)
    assert len(wav) == len(source)
    frames, parts = given[0][:, : vc.vocoder.dim], parts_of(vc.vocoder.reads)
    pool = anna.synthesis.float()
    far = torch.cdist(frames[:, parts.envelope], pool[:, parts.envelope])
    assert float(far.min(1).values.max()) < 0.1  # each is one of hers; others are 5 and more away
    theirs = codec.book.content(normalize(pool[far.argmin(1)][:, parts.content], dim=1))
    assert float((theirs == units.ids).float().mean()) > 0.8  # and says the same, where she ever does
    voiced = frames[:, parts.voicing][:, 0] > 0
    assert float(frames[voiced, parts.pitch].median().exp()) == pytest.approx(anna.pitch.median, rel=0.02)


@pytest.mark.parametrize("name", ["units", "units-frames", "units:ids:none"])
def test_an_evaluation_by_units(codec, vc, speech, tmp_path, name):
    soundfile.write(tmp_path / "clip.wav", speech(2, text=2).numpy(), RATE)
    system = ByUnits(name, codec, vc)
    system.hear("anna", [speech(8, text=1, **WOMAN)])
    sound = system(Pair("one", tmp_path / "clip.wav", "anna"))
    assert len(sound.wav) == 2 * RATE and sound.sample_rate == RATE
    assert "12 units" in system.what and system.size_mb > 0
    units = codec.encode(tmp_path / "clip.wav", **({"layout": "ids", "pitch": "none"} if ":" in name else {}))
    if name != "units-frames":
        torch.testing.assert_close(sound.wav, codec.decode(units, system.voices["anna"]))
    with pytest.raises(ValueError, match="'units:song' keeps 'song'; possible are frames, runs, ids, codes"):
        ByUnits("units:song", codec, vc)
    with pytest.raises(ValueError, match="'units:ids:runs' keeps two of a kind"):
        ByUnits("units:ids:runs", codec, vc)


def test_what_does_not_fit_is_refused(codec, vc, anna, source, extractor, book, tmp_path):
    units = codec.encode(source)
    other = Book(KMeans(book.content.centres + 0.01), book.pitch, book.prosody, book.timbre, book.facts)
    assert other.fingerprint != book.fingerprint
    stranger = Units("0" * 16, *(getattr(units, name) for name in ("clusters", "samples", "ids", "lengths", "layout")))
    with pytest.raises(ValueError, match=f"are of the codec {'0' * 16}, and this one is {book.fingerprint}"):
        codec.decode(stranger)
    with pytest.raises(ValueError, match="units of this codec does not fit this vocoder"):
        UnitCodec(UnitSpeech(extractor, other), codec.vocoder)
    torch.manual_seed(1)
    foreign = Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL)).eval())
    with pytest.raises(ValueError, match="these units are of the encoder"):
        UnitSpeech(foreign, book)
    with pytest.raises(ValueError, match="holds no spoken frames of this encoder"):
        codec.decode(units, VoiceConverter(extractor, "knn", vocoder_of(extractor)).enroll((source, RATE), "bert"))
    with pytest.raises(ValueError, match="pitch is 'sung'; possible are codes, bytes, none"):
        codec.encode(source, pitch="sung")
    (tmp_path / "book.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="holds no units of ours"):
        UnitCodec.from_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="there are no units at 'nowhere'"):
        UnitCodec.from_pretrained("nowhere")


def vocoder_of(extractor):
    """A vocoder that reads the matched frames themselves."""
    spec = extractor.spec
    return Vocos(VocosConfig(dim=spec.dim, width=16, ffn_dim=32, depth=1, reads=spec.facts)).eval()


def test_a_book_on_disk(book, tmp_path):
    book.save(tmp_path / "book.safetensors")
    again = Book.load(tmp_path / "book.safetensors")
    assert again.fingerprint == book.fingerprint and again.facts == book.facts
    runs = torch.tensor([1, 2, 3, 4, 5])
    torch.testing.assert_close(again.prosody(runs[None]), book.prosody(runs[None]), atol=0.02, rtol=0.02)


# ---- learning


def test_prosody_learns_what_follows_from_the_units():
    """Unit 0 lasts 3 frames and is voiced; 1 lasts 8 and is not; 2 is high behind 0 and low behind 1."""
    torch.manual_seed(0)
    ids = torch.randint(0, 3, (16, 40))
    lengths = torch.tensor([3, 8, 4])[ids]
    before = torch.cat([ids[:, :1], ids[:, :-1]], 1)
    height = torch.where(ids == 2, torch.where(before == 0, 0.3, -0.3), 0.0)
    prosody = Prosody(3)
    optimizer = torch.optim.AdamW(prosody.parameters(), 3e-3)
    for _ in range(150):
        loss = prosody.loss(ids, lengths, (ids != 1).float(), height)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    guess = prosody.guess(torch.tensor([0, 2, 1, 2, 0, 1]))
    assert guess.lengths.tolist()[:-1] == [3, 4, 8, 4, 3]  # the last one is heard least often
    assert guess.voiced.tolist() == [True, True, False, True, True, False]
    assert float(guess.height[1]) == pytest.approx(0.3, abs=0.1)
    assert float(guess.height[3]) == pytest.approx(-0.3, abs=0.1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, speech):
    """A folder of recordings, and what `train-units` makes of them."""
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
    assert codec.book.clusters == 8 and codec.book.pitch.clusters == 5
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
    assert torch.equal(shares.book.content.centres, codec.book.content.centres)


def test_units_may_be_those_of_labels(trained, run, source):
    """`ssl-vc label` clusters the same content, so its numbers are the codec's ids, but at the very ends."""
    folder, settings = trained
    clips, encoder = folder / "clips" / "man", str(folder / "encoder")
    settings = [f"clips={clips}", f"encoder={encoder}"]
    label = ("label", clips, "--of", encoder, "--layer", 2, "--clusters", 8, "--hours", 1, "-o")
    assert run(*label, folder / "labels", "--less-mean")[0] == 0
    order = ("train-units", folder / "units.yaml", "-o", folder / "labelled", *settings, f"labels={folder / 'labels'}")
    assert run(*order)[0] == 0
    codec = UnitCodec.from_pretrained(folder / "labelled" / "codec", encoder=encoder)
    labels = Labels.open(folder / "labels")
    assert torch.equal(codec.book.content.centres, labels.kmeans.centres)
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


def test_it_goes_on_and_refuses(trained, run):
    folder, settings = trained
    order = ("train-units", folder / "units.yaml", "-o", folder / "run", *settings)
    book = (folder / "run" / "book.safetensors").read_bytes()
    status, _, err = run(*order)
    assert status == 1 and "holds a training; --resume goes on" in err
    status, _, err = run(*order, "--resume", "vocoder.steps=3")
    assert status == 0 and "done: step 3" in err
    assert (folder / "run" / "book.safetensors").read_bytes() == book
    status, _, err = run(*order, "--resume", "clusters=9")
    assert status == 1 and "was made otherwise" in err
    for setting, problem in (
        ("clusters=1", "clusters is 1; possible are 2"),
        ("soft=2", "soft is 2.0; it is a share"),
        ("vocoder.features=mel", "vocoder.features is set"),
        ("clips=", "nothing to learn from"),
    ):
        status, _, err = run(*order[:3], folder / "other", *settings, setting)
        assert status == 2 and problem in err
    status, _, err = run(*order[:3], folder / "other", *settings, "vocoder.colour=red")
    assert status == 1 and "vocoder has a setting that does not exist" in err


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
    assert status == 0 and "units of 8, ids; bits a second: content" in out
    sound = tmp_path / "again.wav"
    assert run("units", "decode", tmp_path / "clip.units", "-o", sound, *model) == (0, f"{sound}: 2.99 s\n", "")
    assert soundfile.info(sound).frames == len(source)
    status, _, err = run("units", "decode", tmp_path / "clip.wav", "-o", sound, *model, "--force")
    assert status == 1 and "is no file of units" in err
    status, _, err = run("units", "decode", tmp_path / "clip.units", "-o", sound, *model, "--own-frames", "--force")
    assert status == 2 and "--own-frames goes with --voice" in err
