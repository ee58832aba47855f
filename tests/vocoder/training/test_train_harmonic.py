"""Training on frames with F0: harmonic vocoders, masked columns, exact resume."""

from dataclasses import replace

import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from vocoder.kinds import load
from vocoder.mel import Mel
from vocoder.pitch import track_pitch
from vocoder.training.recipe import SpectralLoss, TrainConfig
from vocoder.training.trainer import Trainer

RATE = 16_000
SMALL = {
    "vocos": {"width": 64, "ffn_dim": 128, "depth": 2, "n_fft": 512, "spectra": 2, "harmonic": True},
    "hifigan": {"channels": 32, "projection": 0, "block_kernels": [3], "dilations": [[1, 3]], "harmonic": True},
}


@pytest.fixture(scope="module")
def table(tmp_path_factory, speech):
    """Clips with a file of frames each: the logarithm of F0, and a mel spectrogram."""
    folder = tmp_path_factory.mktemp("clips")
    lines = ["path\tframes"]
    for number in range(3):
        wav = speech(2, text=number, pitch=120 + 40 * number)
        soundfile.write(folder / f"{number}.wav", wav.numpy(), RATE)
        pitch = track_pitch(wav).clamp(min=100).log()
        save_file(
            {"frames": torch.cat([pitch[:, None], Mel()(wav[None])[0]], 1)},
            folder / f"{number}.safetensors",
            {"kind": "spoken"},
        )
        lines.append(f"{number}.wav\t{number}.safetensors")
    (folder / "clips.tsv").write_text("\n".join(lines))
    return folder / "clips.tsv"


def config(table, vocoder="vocos", **settings):
    spectral = {"features": "frames", "mel_loss": "long", "adversarial_from": 99, "discriminators": ("mpd-slim",)}
    shape = {"vocoder": vocoder, "shape": SMALL[vocoder], "batch": 4, "segment": 16}
    return TrainConfig(**{"clips": str(table), **spectral, **shape, **settings})


@pytest.mark.parametrize("vocoder", SMALL)
def test_the_loss_decreases(table, tmp_path, vocoder):
    losses = []
    settings = {"learning_rate": 4e-3, "steps": 40, "hide": (1, 41), "hidden": 0.25}
    Trainer(config(table, vocoder, **settings), tmp_path).run(lambda step, parts: losses.append(parts["mel"]))
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_exact_resume(table, tmp_path):
    settings = config(table, hide=(1, 41), hidden=0.5, save_every=2, adversarial_from=2)
    Trainer(replace(settings, steps=4), tmp_path / "whole").run()
    Trainer(replace(settings, steps=2), tmp_path / "cut").run()
    again = Trainer(replace(settings, steps=4), tmp_path / "cut")
    again.resume()
    assert again.step == 2
    again.run()
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_columns_are_masked_in_some_segments(table, tmp_path, monkeypatch):
    trainer = Trainer(config(table, hide=(1, 41), hidden=0.5, batch=64), tmp_path)
    generator, inputs = trainer.networks["generator"], []
    monkeypatch.setattr(
        generator, "forward", lambda frames: inputs.append(frames) or generator.generate(generator.add_phase(frames)[0])
    )
    batch = next(iter(torch.utils.data.DataLoader(trainer.segments, batch_sampler=[list(range(64))])))
    whole = batch.frames.clone()
    trainer.train_step(batch)
    hidden = (inputs[0][:, :, 1:41] == 0).all(dim=(1, 2))
    assert 16 < int(hidden.sum()) < 48
    assert torch.equal(inputs[0][~hidden], whole[~hidden])
    assert torch.equal(inputs[0][hidden][:, :, [0, 60]], whole[hidden][:, :, [0, 60]])


def test_half_precision_halves_the_file(table, tmp_path):
    for half in (False, True):
        Trainer(config(table, steps=1, half=half), tmp_path / str(half)).run()
    full, halved = (tmp_path / str(half) / "model" / "model.safetensors" for half in (False, True))
    assert halved.stat().st_size < 0.55 * full.stat().st_size
    frames = load_file(table.parent / "0.safetensors")["frames"][None]
    with torch.no_grad():
        one, other = (load(file.parent)(frames) for file in (full, halved))
    assert float((one - other).norm() / one.norm()) < 0.01


def test_the_long_loss_tolerates_pulse_shifts(table):
    wav = torch.zeros(1, RATE)
    wav[0, ::160] = 1.0
    late = wav.roll(53, 1)
    losses = {
        kind: float(SpectralLoss(config(table, mel_loss=kind), RATE, 320)(wav, late)["mel"])
        for kind in ("multi", "long")
    }
    assert losses["long"] < 0.3 * losses["multi"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hide": (5, 3)}, "hide is"),
        ({"hidden": 1.5}, "hidden is 1.5; it is a fraction"),
        ({"mel_loss": "short"}, "mel_loss is"),
    ],
)
def test_wrong_settings(table, settings, message):
    with pytest.raises(ValueError, match=message):
        config(table, **settings)
