"""Every pair that fits makes a copy that is exactly as long; what cannot be made says why; a grid holds them all."""

import csv
import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import pytest
import soundfile
import torch

import ssl_vc
from pretrain.labels.kmeans import KMeans
from ssl_vc import copysynth
from ssl_vc.cli.copy_synth import Features, Vocoder
from ssl_vc.copysynth import FITS, PAIRS, MissingError, Routes
from ssl_vc.evaluate.copy_grid import COLUMNS, copy_grid
from ssl_vc.evaluate.spectral import mel_cepstral_distortion, mel_distance
from ssl_vc.features import analysis as features
from ssl_vc.features.disentangled import DisentangledAnalysis
from ssl_vc.units.analyzer import UnitAnalyzer
from ssl_vc.units.codebook import Codebook
from ssl_vc.units.prosody import ProsodyPredictor
from vocoder.bigvgan import BigVGAN, BigVGANConfig
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.mel import Mel, MelConfig, Mfcc
from vocoder.stft import Padding
from vocoder.unit_hifigan import UnitHiFiGAN, UnitHiFiGANConfig
from vocoder.vocos import Vocos, VocosConfig

ROOT = Path(__file__).parents[2]
RATE = 16_000
NO_WORLD = find_spec("pyworld") is None
needs_world = pytest.mark.skipif(NO_WORLD, reason="pyworld is not installed (extra world)")
SLIM = {"width": 8, "ffn_dim": 16, "depth": 1}


def vowel(samples=RATE):
    """A gliding pulse train through three resonators, with two pauses a second."""
    time = torch.arange(samples) / RATE
    pulses = torch.diff((120 * time + 10 * time**2).floor(), prepend=torch.zeros(1))
    heard = torch.fft.rfft(pulses, n=samples + 4000)
    hertz = torch.linspace(0, RATE / 2, len(heard))
    for at, width in ((600, 90), (1500, 120), (2600, 200)):
        heard = heard / (1 - (hertz / at) ** 2 + 1j * hertz * width / at**2)
    wav = torch.fft.irfft(heard, n=samples + 4000)[:samples] * (time % 0.5 < 0.4)
    return 0.3 * wav / wav.abs().max().clamp(min=1e-9)


@pytest.fixture(scope="module")
def voice():
    return vowel()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders of small vocoders with random weights."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    mel = Mel().reads
    wide = Mel(MelConfig(24_000, 1024, 256, 100, scale="htk", padding="center", epsilon=0.0)).reads
    extractor = ssl_vc.Extractor.from_pretrained("untrained")
    ssl, said = extractor.spec.feature_spec, DisentangledAnalysis(extractor).feature_spec
    made = {
        "mel-hifigan": HiFiGAN(HiFiGANConfig(dim=80, projection=0, channels=16, reads=mel)),
        "mel-vocos": Vocos(VocosConfig(dim=80, reads=mel, **SLIM)),
        "mel-vocos-24k": Vocos(VocosConfig(dim=100, sample_rate=24_000, n_fft=1024, hop=256, reads=wide, **SLIM)),
        "mel-bigvgan": BigVGAN(BigVGANConfig(dim=80, projection=0, channels=16, reads=mel)),
        "mfcc-vocos": Vocos(VocosConfig(dim=20, reads=Mfcc(count=20).reads, **SLIM)),
        "ssl-hifigan-44k": HiFiGAN(HiFiGANConfig(dim=256, projection=0, channels=16, reads=ssl).at_rate(44_100)),
        "ssl-vocos": Vocos(VocosConfig(dim=256, reads=ssl, **SLIM)),
        "ssl-bigvgan": BigVGAN(  # heard the same encoder fed otherwise
            BigVGANConfig(dim=256, projection=0, channels=16, reads=ssl | {"normalized": True})
        ),
        "spoken-vocos": Vocos(VocosConfig(dim=said["dim"], reads=said, harmonic=True, **SLIM)),
        "spoken-hifigan": HiFiGAN(HiFiGANConfig(dim=said["dim"], reads=said, projection=0, channels=16, harmonic=True)),
        "other-encoder": Vocos(VocosConfig(dim=256, reads={**ssl, "encoder": "another"}, **SLIM)),
        "slow": Vocos(VocosConfig(dim=80, reads=mel, hop=640, **SLIM)),
        "silent-about-itself": Vocos(VocosConfig(dim=80, **SLIM)),
        "units": UnitHiFiGAN(UnitHiFiGANConfig(channels=32, reads={"kind": "units"})),
    }
    codebook = Codebook(
        KMeans(torch.randn(9, 256)),
        KMeans(torch.randn(5, 8)),
        ProsodyPredictor(9),
        torch.zeros(80),
        {**ssl, "layer": 4},
    )
    shares, numbers = (UnitAnalyzer(extractor, codebook, form).feature_spec for form in ("shares", "numbers"))
    shape = {"channels": 32, "units": 9, "pitch": "hertz", "speaker_vector": 80, "reads": numbers}
    made["codec/vocoder"] = Vocos(VocosConfig(dim=shares["dim"], reads=shares, harmonic=True, **SLIM))
    made["codec-hifigan/vocoder"] = UnitHiFiGAN(UnitHiFiGANConfig(**shape))
    for name in ("codec", "codec-hifigan"):
        (folder / name).mkdir()
        codebook.save(folder / name / "book.safetensors")
    for name in ("spoken-vocos", "codec/vocoder"):
        torch.nn.init.constant_(made[name].out.bias, -2.0)  # or it would be too loud for a file
    for name, vocoder in made.items():
        vocoder.save_pretrained(folder / name)
    return folder


@pytest.fixture
def clip(tmp_path, voice):
    return ssl_vc.write(tmp_path / "clip.wav", voice, RATE)


def test_a_copy_by_griffin_lim_is_near_and_shifts_nothing(voice):
    copy = ssl_vc.copy_synthesis(voice)
    assert copy.shape == voice.shape
    assert mel_cepstral_distortion(voice, copy) < 4
    assert mel_distance(voice, copy) < 0.5 * mel_distance(voice, copy.roll(400))


@pytest.mark.parametrize("samples", [1, 79, 80, 319, 320, 321, 5000])
def test_a_copy_is_exactly_as_long(samples, weights):
    wav = vowel(samples) + 0.01
    assert len(ssl_vc.copy_synthesis(wav, "mfcc")) == samples
    assert len(ssl_vc.copy_synthesis(wav, "mel", "hifigan", weights=weights / "mel-hifigan")) == samples
    assert len(ssl_vc.copy_synthesis(wav, "mfcc", "vocos", weights=str(weights / "mel-vocos-24k"))) == samples
    for name, rate in (("ssl-vocos", RATE), ("ssl-hifigan-44k", 44_100)):
        settings = {"weights": [weights / name], "encoder": "untrained"}
        assert len(ssl_vc.copy_synthesis(wav, "ssl", name.split("-")[1], **settings)) == samples
        route = Routes(**settings)("ssl", name.split("-")[1])
        assert (len(route(wav)), route.sample_rate) == (round(samples * rate / RATE), rate)


@needs_world
@pytest.mark.parametrize("samples", [100, 16_001])
def test_world_is_exactly_as_long(samples):
    assert len(ssl_vc.copy_synthesis(vowel(samples), "world", "world")) == samples


def test_any_source_is_taken(tmp_path, voice):
    soundfile.write(tmp_path / "stereo.flac", torch.stack([voice, voice], 1).numpy(), 32_000)
    assert len(ssl_vc.copy_synthesis(tmp_path / "stereo.flac")) == 8000


@pytest.mark.parametrize("padding", get_args(Padding))
def test_spectrograms_in_blocks_are_those_of_the_whole(voice, padding, monkeypatch):
    mel = Mel(MelConfig(padding=padding))
    monkeypatch.setattr(features, "BLOCK", 7)
    pieces = list(features.spectral_analysis(mel).frames(voice[:15_900]))
    assert len(pieces) == 8
    whole = mel(torch.cat([voice[:15_900], torch.zeros(100)])[None])[0]
    assert torch.allclose(torch.cat(pieces), whole, atol=1e-5)


def test_features_are_made_as_the_vocoder_reads_them(weights):
    routes = Routes([weights / "mel-vocos-24k"])
    config = MelConfig(24_000, 1024, 256, 100, scale="htk", padding="center", epsilon=0.0)
    assert routes("mel", "vocos").analysis.feature_spec == Mel(config).reads
    (frames,) = routes("mfcc", "vocos").analysis.frames(vowel(8000))
    assert frames.shape == (-(-12_000 // 256) + 1, 100)  # log-mel again, of 40 coefficients
    assert torch.linalg.matrix_rank(frames.double(), rtol=1e-5) <= copysynth.COEFFICIENTS
    (frames,) = Routes(weights / "mfcc-vocos")("mfcc", "vocos").analysis.frames(vowel(8000))
    assert frames.shape == (25, 20)
    route = Routes(weights / "ssl-vocos", "untrained")("ssl", "vocos")
    assert torch.cat(list(route.analysis.frames(vowel(8000)))).shape == (25, 256)


def test_the_vocoder_chooses_the_layer(weights):
    reads = Routes(weights / "ssl-vocos").trained["ssl", "vocos"].reads
    assert Routes(weights / "ssl-vocos", "untrained")("ssl", "vocos").analysis.feature_spec["layer"] == reads["layer"]
    with pytest.raises(
        ValueError, match=r"this ssl analysis does not fit this vocoder: .*layer is 2 where 4 is wanted"
    ):
        Routes(weights / "ssl-vocos", "untrained", 2)("ssl", "vocos")


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("mels", "vocos"), "there are no features 'mels'; possible are mel, mfcc, world, ssl, spoken, units"),
        (("mel", "wavenet"), "there is no vocoder 'wavenet'; possible are griffin-lim, hifigan"),
        (("world", "hifigan"), "world goes with world, and hifigan reads mel, mfcc, ssl, spoken"),
        (("mel", "unit-hifigan"), "mel goes with griffin-lim, hifigan, vocos, bigvgan, and unit-hifigan reads units"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(pair, words, voice):
    with pytest.raises(ValueError, match=words):
        ssl_vc.copy_synthesis(voice, *pair)


@pytest.mark.parametrize(
    ("pair", "name", "words"),
    [
        (("ssl", "vocos"), "other-encoder", "encoder is '[0-9a-f]+' where 'another' is wanted"),
        (
            ("mel", "vocos"),
            "slow",
            "a frame of this mel analysis is 20 ms long, and this vocoder generates 40 ms per frame",
        ),
        (("mel", "vocos"), "silent-about-itself", "is a vocos on unknown features"),
        (("mel", "vocos"), "nowhere", "there is no vocoder"),
        (("mel", "vocos"), "ssl-vocos", "no weights of a vocos on mel were given"),
        (("units", "unit-hifigan"), "units", "is a unit vocoder without its codebook; give the folder `codec`"),
        (("units", "unit-hifigan"), "codec", "no units with a unit-hifigan were given"),
    ],
)
def test_weights_that_do_not_fit_are_refused(pair, name, words, voice, weights):
    with pytest.raises(ValueError, match=words):
        ssl_vc.copy_synthesis(voice, *pair, weights=weights / name, encoder="untrained")


def test_two_weights_for_a_pair_are_refused(weights):
    with pytest.raises(ValueError, match="is a second vocos on mel features; give one at a time"):
        Routes([weights / "mel-vocos", weights / "mel-vocos-24k"])


def test_what_takes_a_sound_in_one_piece_says_how_long_it_may_be(weights):
    wav = torch.zeros(1).expand(16 * 60 * RATE)
    with pytest.raises(ValueError, match="is 16 minutes long, and this vocoder takes it in one piece; cut it into"):
        Routes()("mel", "griffin-lim")(wav)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair[1] not in ("griffin-lim", "world")])
def test_missing_weights_come_with_a_command_that_exists(pair):
    with pytest.raises(MissingError) as missing:
        Routes(encoder="untrained")(*pair)
    words = missing.value.command.rpartition(" && ")[2].split()
    assert words[:2] == ["ssl-vc", "train-units" if pair[0] == "units" else "train-vocoder"]
    assert (ROOT / words[2]).is_file()
    assert pair[1] in (ROOT / words[2]).read_text(encoding="utf-8")
    folder = "units/" if pair[0] == "units" else f"vocoder/{pair[0].replace('mfcc', 'mel')}-{pair[1]}"
    assert words[2].startswith(f"configs/{folder}")
    assert missing.value.command in str(missing.value)


def test_an_encoder_that_is_there_is_named_in_the_command():
    with pytest.raises(MissingError, match="encoder=untrained layer=3 clips=FOLDER"):
        Routes(None, "untrained", 3)("ssl", "vocos")


def test_world_without_its_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(copysynth, "World", _no_world)
    with pytest.raises(MissingError) as missing:
        Routes()("world", "world")
    assert missing.value.command == "pip install 'ssl-vc[world]'"
    assert str(missing.value) == "WORLD needs pyworld; pip install 'ssl-vc[world]'."


def _no_world():
    raise ValueError("WORLD needs pyworld; pip install 'ssl-vc[world]'.")


def test_a_grid_without_anything_lists_every_pair(voice):
    copies = list(copy_grid(voice))
    assert [(copy.features, copy.vocoder) for copy in copies] == [("", ""), *PAIRS]
    made = {copy.name for copy in copies if copy.wav is not None}
    bundled = {
        "original",
        "mel × griffin-lim",
        "mfcc × griffin-lim",
        "spoken × vocos",
        "spoken × hifigan",
        "units × vocos",
    }
    assert made == bundled | (set() if NO_WORLD else {"world × world"})
    assert all(copy.reason for copy in copies if copy.wav is None)
    assert all(copy.command for copy in copies if copy.wav is None)
    ssl = [copy for copy in copies if copy.features == "ssl"]
    assert all("no weights" in copy.reason and "encoder=tiny" in copy.command for copy in ssl)


def test_a_grid_without_an_encoder_says_so(voice):
    ssl = [copy for copy in copy_grid(voice, encoder="nobody") if copy.features == "ssl"]
    assert all("there is no model 'nobody'" in copy.reason and "no weights" in copy.reason for copy in ssl)


def test_a_pair_that_fails_stops_no_other(voice, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Routes, "_mel", fail)
    monkeypatch.setattr("ssl_vc.evaluate.copy_grid.PAIRS", [("mel", "vocos"), ("mfcc", "griffin-lim")])
    copies = {copy.name: copy for copy in copy_grid(voice)}
    assert copies["mel × vocos"].reason == "RuntimeError: out of memory"
    assert copies["mfcc × griffin-lim"].wav is not None


def test_the_grid_on_the_command_line(run, tmp_path, clip, weights):
    names = ["mel-hifigan", "mel-vocos", "mel-bigvgan", "mfcc-vocos", "ssl-hifigan-44k", "ssl-vocos", "ssl-bigvgan"]
    names += ["spoken-vocos", "spoken-hifigan", "codec", "codec-hifigan"]
    given = [word for name in names for word in ("--weights", weights / name)]
    arguments = ("copy-synth", clip, "-o", tmp_path / "new" / "grid", "--grid", "--encoder", "untrained", *given)
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    folder = tmp_path / "new" / "grid"
    absent = {("world", "world")} if NO_WORLD else set()
    wavs = {"original.wav", *("_".join(pair) + ".wav" for pair in PAIRS if pair not in absent)}
    assert {path.name for path in folder.iterdir()} == wavs | {"table.json", "table.csv", "index.html"}

    table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    assert table["input"] == str(clip)
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    pairs = [("", ""), *PAIRS]
    for rows in (table["sounds"], lines):
        assert [(row["features"], row["vocoder"]) for row in rows] == pairs
        assert {row["file"] for row in rows} == wavs | ({""} if absent else set())
        assert all(bool(row["file"]) != bool(row["reason"]) for row in rows)
    griffin_lim = next(row for row in table["sounds"] if row["vocoder"] == "griffin-lim")
    assert griffin_lim.keys() >= {column.name for column in COLUMNS}
    assert math.isfinite(griffin_lim["mcd_db"])
    assert griffin_lim["real_time_factor"] > 0
    assert soundfile.info(folder / "ssl_hifigan.wav").samplerate == 44_100

    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio") == len(wavs)
    assert "Copy-synthesis of clip.wav" in page
    shown = [line.split("  ")[0] for line in out.splitlines() if " × " in line]
    assert shown == [
        *(" × ".join(pair) for pair in PAIRS if pair not in absent),
        *(f"missing: {' × '.join(pair)}: {_reason(table, pair)}" for pair in PAIRS if pair in absent),
    ]
    assert len({len(line) for line in out.splitlines()[: 1 + len(wavs)]}) == 1  # aligned


def _reason(table, pair):
    return next(row["reason"] for row in table["sounds"] if (row["features"], row["vocoder"]) == pair)


def test_existing_grids_are_kept_without_force(run, tmp_path, clip, monkeypatch):
    (tmp_path / "index.html").write_text("precious")
    monkeypatch.setattr("ssl_vc.evaluate.copy_grid.PAIRS", PAIRS[:1])
    status, out, err = run("copy-synth", clip, "-o", tmp_path, "--grid")
    assert (status, out) == (1, "")
    assert err == f"error: {tmp_path / 'index.html'} exists; --force overwrites it.\n"
    assert (tmp_path / "index.html").read_text() == "precious"
    assert not (tmp_path / "original.wav").exists()
    assert run("copy-synth", clip, "-o", tmp_path, "--grid", "--force")[0] == 0
    assert "mel × griffin-lim" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_json_lines_of_a_grid(run, tmp_path, clip, monkeypatch):
    monkeypatch.setattr("ssl_vc.evaluate.copy_grid.PAIRS", PAIRS[:2])
    status, out, _ = run("copy-synth", clip, "-o", tmp_path / "grid", "--grid", "--json")
    assert status == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert lines == json.loads((tmp_path / "grid" / "table.json").read_text())["sounds"]


def test_one_pair_on_the_command_line(run, tmp_path, clip, voice):
    out_file = tmp_path / "copy.flac"
    status, out, err = run("copy-synth", clip, "-o", out_file)
    assert (status, err) == (0, "")
    assert "mel × griffin-lim, 1.0 s of sound in " in out
    samples, rate = soundfile.read(out_file)
    assert (len(samples), rate) == (len(voice), RATE)
    status, _, err = run("copy-synth", clip, "-o", out_file)
    assert status == 1
    assert "exists; --force overwrites it" in err
    status, out, _ = run("copy-synth", clip, "-o", out_file, "--features", "mfcc", "--force", "--json")
    result = json.loads(out)
    assert status == 0
    assert {key: result[key] for key in ("features", "vocoder", "samples")} == {
        "features": "mfcc",
        "vocoder": "griffin-lim",
        "samples": RATE,
    }


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--features", "world", "--vocoder", "hifigan"], 2, "and hifigan reads mel, mfcc, ssl, spoken"),
        (["--features", "melon"], 2, "'melon' is not one of 'mel', 'mfcc', 'world', 'ssl', 'spoken', 'units'"),
        (["--grid", "--features", "mel"], 2, "leave out --features and --vocoder"),
        (["-o", "{folder}/x.txt"], 2, "is not an audio file name; end it in one of .wav, .flac"),
        (["-o", "{folder}"], 2, "is not an audio file name"),
        (["-o", "{clip}", "--grid"], 2, "is a file; with --grid, -o wants a folder"),
        (["-o", "{folder}/none/x.wav"], 1, "does not exist; create it first"),
        (["--vocoder", "vocos"], 1, "run `ssl-vc train-vocoder configs/vocoder/mel-vocos.yaml -o runs/mel-vocos"),
        (["--features", "ssl", "--vocoder", "vocos"], 1, "no weights of a vocos on ssl were given"),
        (["--features", "ssl", "--vocoder", "vocos", "--encoder", "nobody"], 1, "there is no model 'nobody'"),
        (["--features", "units", "--vocoder", "unit-hifigan"], 1, "no units with a unit-hifigan were given"),
        (["--device", "fpga"], 1, "the device 'fpga' is not known"),
        (["--grid", "-o", "{folder}/grid", "--weights", "{folder}/none"], 1, "there is no vocoder"),
    ],
)
def test_wrong_wishes_are_one_line(run, tmp_path, clip, options, status, words):
    before = sorted(tmp_path.iterdir())
    options = [option.format(folder=tmp_path, clip=clip) for option in options]
    if "-o" not in options:
        options += ["-o", str(tmp_path / ("grid" if "--grid" in options else "x.wav"))]
    code, out, err = run("copy-synth", clip, *options)
    assert (code, out) == (status, "")
    assert words in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_input_leaves_no_folder(run, tmp_path):
    status, _, err = run("copy-synth", tmp_path / "none.wav", "-o", tmp_path / "grid", "--grid")
    assert status == 1
    assert "does not exist as a file" in err
    assert not (tmp_path / "grid").exists()


def test_nothing_is_half_written(run, tmp_path, clip, monkeypatch):
    def burst(*_, **__):
        raise OSError("the disk is full")

    monkeypatch.setattr("ssl_vc.evaluate.copy_grid.PAIRS", PAIRS[:1])
    monkeypatch.setattr("ssl_vc.evaluate.cost._reset_peak", lambda: False)  # it writes too
    monkeypatch.setattr("pathlib.Path.write_text", burst)
    status, _, err = run("copy-synth", clip, "-o", tmp_path / "grid", "--grid")
    assert (status, err) == (1, "error: the disk is full\n")
    assert {path.suffix for path in (tmp_path / "grid").iterdir()} == {".wav"}


def test_the_choices_are_those_that_exist():
    assert [each.value for each in Features] == list(FITS)
    assert {each.value for each in Vocoder} == {vocoder for _, vocoder in PAIRS}
