"""Valid files of each kind that users receive from others, and how they are read."""

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile
import torch

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.manifest import read_manifest
from pretrain.probing.probe import ProbeConfig
from pretrain.recipe import PretrainConfig
from ssl_vc.batch.jobs import read_jobs
from ssl_vc.cli.settings import read_config
from ssl_vc.evaluate.pairs import read_pairs
from ssl_vc.evaluate.protocol import read_protocol
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.hub.registry import load_encoder
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.units.file import Units
from ssl_vc.units.training import UnitsConfig
from ssl_vc.voice.voice import Findings, Origin, PitchRange, Voice
from vocoder import HiFiGAN, Vocos
from vocoder.hifigan import HiFiGANConfig
from vocoder.kinds import load
from vocoder.training.recipe import TrainConfig
from vocoder.vocos import VocosConfig

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {
    "pretrain/debug": PretrainConfig,
    "vocoder/mel-vocos-small": TrainConfig,
    "units/tiny": UnitsConfig,
    "tts/tiny": TTSConfig,
    "probe/dev": ProbeConfig,
}


class Reader(NamedTuple):
    """Valid files by name, `read` for the path of one, and `repair`: makes the sizes or checksums fit the rest."""

    files: dict[str, bytes]
    read: Callable[[Path], object]
    repair: Callable[[bytes], bytes] = bytes


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sound_files(folder):
    wav = 0.3 * torch.randn(600, 2, generator=torch.Generator().manual_seed(0)).numpy()
    for name, rate, subtype, form in (
        ("plain.wav", 16_000, "PCM_16", "WAV"),
        ("float.wav", 8_000, "FLOAT", "WAV"),
        ("adpcm.wav", 44_100, "IMA_ADPCM", "WAV"),
        ("opus.opus", 16_000, "OPUS", "OGG"),
        *((f"other.{form}", 48_000, None, form.upper()) for form in ("flac", "ogg", "mp3", "aiff", "au", "w64", "caf")),
    ):
        soundfile.write(folder / name, wav, rate, subtype, format=form)
    return Reader(contents(folder), ssl_vc.read)


def voice_files(folder):
    spec, frames = FrameSpec("0" * 16, 4, False, 8), torch.randn(20, 8).half()
    origins = Origin("a.wav", "0" * 64, 0.2, 12), Origin("b.wav", "1" * 64, 0.1, 8)
    rest = {"pitch": PitchRange(120.0, 80.0, 200.0, 0.5), "findings": Findings(0.0, 40.0, ("a.wav",), 0.3)}
    Voice(frames, spec).save(folder / "small.voice")
    Voice(frames, spec, "anna", origins, frames[:, :3], {"kind": "mel"}, **rest).save(folder / "whole.voice")

    def fit_header(content):
        end = content.rfind(b"}", 8, 8 + int.from_bytes(content[:8], "little") + 64) + 1
        return struct.pack("<Q", max(end - 8, 0)) + content[8:]

    return Reader(contents(folder), Voice.load, fit_header)


def unit_files(folder):
    some = {"codec": "0123456789abcdef", "clusters": 100, "samples": 320 * 20, "pitch_levels": 20, "median_f0": 99.0}
    for layout, ids, values in (("frames", 20, 5), ("runs", 4, 5), ("ids", 4, 4)):
        lengths = torch.full((ids,), 5) if layout == "runs" else None
        some |= {"ids": torch.arange(ids), "lengths": lengths, "pitch": torch.arange(values), "timbre": torch.randn(4)}
        Units(**some, layout=layout).save(folder / f"{layout}.units")
    return Reader(
        contents(folder), Units.load, lambda content: content[:-4] + struct.pack("<I", zlib.crc32(content[:-4]))
    )


def table_files(folder):
    write(folder / "jobs.csv", "source,voice,name,k", "a.wav,anna.voice,one,4", '"b, c.wav",anna.voice,two,')
    write(folder / "pairs.csv", "source,target,name", "a.wav,b.wav;c.wav,one", 'd.wav,e.wav,"t, wo"')
    write(folder / "pairs.tsv", "source\ttarget\ttext", "a.wav\tb.wav\tHe said so", "c.wav\tb.wav\tand left")
    rows = "a.wav\t1.5\tanna\ttrain\tOne", "b.wav\t\tbert\tdev\tTwo"
    write(folder / "manifest.tsv", "path\tseconds\tspeaker\tsplit\ttext", *rows)
    write(folder / "wav.scp", "one a.wav", "two b.wav")
    write(folder / "utt2dur", "one 1.5", "two 0.7")
    tables = contents(folder)
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, torch.full((4000,), 0.1).numpy(), 16_000)

    def read(path):
        if path.name in ("wav.scp", "utt2dur"):
            return read_manifest(folder)
        return {"jobs.csv": read_jobs, "manifest.tsv": read_manifest}.get(path.name, read_pairs)(path)

    return Reader(tables, read)


def config_files(folder):
    kinds = {f"{name.replace('/', '-')}.yaml": kind for name, kind in RECIPES.items()}
    for name, target in zip(RECIPES, kinds, strict=True):
        shutil.copy(CONFIGS / f"{name}.yaml", folder / target)
    targets = "targets: {anna: {references: [a.wav], trials: [b.wav]}}"
    write(
        folder / "evaluate.yaml",
        "name: a",
        "clips: clips.tsv",
        "reference_seconds: [60]",
        targets,
        "pairs: [[c.wav, anna]]",
    )

    def read(path):
        return read_config(path, [], kinds[path.name], "") if path.name in kinds else read_protocol(path)

    return Reader(contents(folder), read)


def model_files(folder):
    torch.manual_seed(0)
    slim = {"channels": 4, "rates": (2, 2), "kernels": (4, 4), "block_kernels": (3,), "dilations": ((1, 3, 5),)}
    for name, model in {
        "encoder": SpeechEncoder(EncoderConfig.tiny(conv_dim=4, dim=8, depth=1, heads=1, ffn_dim=4, pos_groups=1)),
        "vocos": Vocos(VocosConfig(dim=4, width=4, ffn_dim=4, depth=1)),
        "hifigan": HiFiGAN(HiFiGANConfig(dim=4, projection=4, **slim)),
    }.items():
        model.save_pretrained(folder.parent / name)
        shutil.copy(folder.parent / name / "config.json", folder / f"{name}.json")

    def read(path):
        model = folder.parent / path.stem
        shutil.copy(path, model / "config.json")
        return load_encoder(str(model)) if path.stem == "encoder" else load(model)

    return Reader(contents(folder), read)


READERS = {
    "sound": sound_files,
    "voices": voice_files,
    "units": unit_files,
    "tables": table_files,
    "configs": config_files,
    "models": model_files,
}


@pytest.fixture(params=READERS)
def reader(request, tmp_path, monkeypatch):
    """A reader, and the folder of its files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_VC_CLIPS", "clips.tsv")
    folder = tmp_path / "files"
    folder.mkdir()
    return READERS[request.param](folder), folder
