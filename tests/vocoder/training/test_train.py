"""Training: the loss decreases, resumes bit for bit after kill -9, and two processes match one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

from ssl_vc.cli import main
from vocoder.hifigan import HiFiGANConfig
from vocoder.kinds import load
from vocoder.training.data import Segment
from vocoder.training.loop import update_ema
from vocoder.training.recipe import TrainConfig
from vocoder.training.trainer import Trainer

SMALL_VOCOS = {"width": 64, "ffn_dim": 128, "depth": 2}
SMALL_HIFIGAN = {"channels": 32, "projection": 0, "block_kernels": [3], "dilations": [[1, 3]]}
ENVIRONMENT = os.environ | {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
LOSSES = ("mel", "discriminator", "adversarial", "matching")


def synthetic_speech(seconds=2.0, rate=16_000, seed=0):
    """Pulses at a gliding pitch through moving resonances, in syllables."""
    random = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    pitch = 120 * (1 + seed % 3 / 3) * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * time + seed))
    phase = np.cumsum(pitch) / rate
    wav = np.zeros_like(time)
    for n in range(1, int(rate / 2 / pitch.max())):
        hertz = n * pitch
        formants = ((500 + 200 * np.sin(3 * time), 90), (1500 + 400 * np.cos(2 * time), 120), (2600, 200))
        gain = sum(1 / (1 + ((hertz - centre) / width) ** 2) for centre, width in formants)
        wav += gain * np.sin(2 * np.pi * n * phase)
    wav *= np.clip(np.sin(2 * np.pi * 2.5 * time) + 0.6, 0, 1)
    wav += 0.003 * random.standard_normal(len(time))
    return (0.5 * wav / np.abs(wav).max()).astype(np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for seed in range(4):
        soundfile.write(folder / f"{seed}.wav", synthetic_speech(seed=seed), 16_000)
    return folder


def config(folder, **settings):
    defaults = {"clips": str(folder), "batch": 4, "segment": 16, "discriminators": ("mpd-slim",), "shape": SMALL_VOCOS}
    return TrainConfig(**{**defaults, **settings})


def small_discriminators(monkeypatch):
    from vocoder.training import recipe
    from vocoder.training.discriminators import MultiPeriodDiscriminator, MultiScaleDiscriminator

    monkeypatch.setitem(recipe.DISCRIMINATORS, "mpd-slim", lambda: MultiPeriodDiscriminator((4, 8, 8), (2, 3)))
    monkeypatch.setitem(recipe.DISCRIMINATORS, "msd-slim", lambda: MultiScaleDiscriminator((16,) * 7, 2))


@pytest.mark.parametrize("vocoder", ["vocos", "hifigan"])
def test_smoke(clips, tmp_path, vocoder):
    """50 steps bring the mel loss down by a third, and the averaged model on disk is better than a fresh one."""
    shape, rate = (SMALL_VOCOS, 4e-3) if vocoder == "vocos" else (SMALL_HIFIGAN, 2e-3)
    settings = {"shape": shape, "learning_rate": rate, "adversarial_from": 40, "steps": 50, "average": 0.9}
    trainer = Trainer(config(clips, vocoder=vocoder, valid_clips=str(clips), **settings), tmp_path)
    fresh, losses = trainer.validate(), []
    trainer.run(lambda step, parts: losses.append(parts))
    mel = [parts["mel"] for parts in losses]
    assert sum(mel[-5:]) / 5 < 2 / 3 * sum(mel[:3]) / 3
    assert "discriminator" not in losses[39]
    assert set(losses[40]) == {*LOSSES, "generator"}
    assert trainer.validate() < 0.85 * fresh
    model = load(tmp_path / "model")
    assert model.reads == trainer.features.reads
    segment = trainer.segments[0]
    with torch.no_grad():
        expected = trainer.averaged_model()(trainer.features(segment.wav[None]))
        assert torch.allclose(model(trainer.features(segment.wav[None])), expected, atol=1e-5)


@pytest.mark.parametrize("rate", [24_000, 44_100, 48_000])
@pytest.mark.parametrize("vocoder", ["vocos", "hifigan"])
def test_higher_rates_train(clips, tmp_path, monkeypatch, vocoder, rate):
    """Frames of 20 ms at 16 kHz, output at a higher rate."""
    small_discriminators(monkeypatch)
    hop = rate // 50
    shape = {"n_fft": 4 * hop, "hop": hop, "sample_rate": rate, **SMALL_VOCOS}
    if vocoder == "hifigan":
        high = HiFiGANConfig().at_rate(rate)
        shape = SMALL_HIFIGAN | {"channels": 16, "rates": high.rates, "kernels": high.kernels, "sample_rate": rate}
    rates = []

    def featurize(wav, sample_rate):
        rates.append(sample_rate)
        return torch.randn(len(wav) // (sample_rate // 50), 24)

    settings = {"features": "ssl", "vocoder": vocoder, "shape": shape, "steps": 2, "segment": 8, "mel_loss": "multi"}
    reads = {"kind": "ssl", "layer": 3, "dim": 24}
    trainer = Trainer(config(clips, **settings, stft_weight=1.0), tmp_path, featurize, reads)
    trainer.run()
    assert set(rates) == {rate}
    model = load(tmp_path / "model")
    assert (model.sample_rate, model.hop_length, model.dim, model.reads) == (rate, hop, 24, reads)


@pytest.mark.parametrize("vocoder", ["bigvgan", "unit-hifigan"])
def test_the_others_train(clips, tmp_path, monkeypatch, vocoder):
    small_discriminators(monkeypatch)
    shape = {key: value for key, value in SMALL_HIFIGAN.items() if key != "projection"} | {"projection": 0}
    settings = {"vocoder": vocoder, "shape": shape, "steps": 3, "segment": 8, "adversarial": "hinge", "max_norm": 1.0}
    if vocoder == "unit-hifigan":
        settings |= {"features": "frames", "shape": shape | {"units": 7, "pitch": "hertz"}}
        lines = ["path\tframes"]
        for file in sorted(clips.glob("*.wav")):
            units = torch.stack([torch.randint(0, 7, (100,)).float(), torch.rand(100) * 200], dim=1)
            save_file({"frames": units}, tmp_path / f"{file.stem}.safetensors", {"kind": "units"})
            lines.append(f"{file}\t{tmp_path / file.stem}.safetensors")
        (tmp_path / "clips.tsv").write_text("\n".join(lines))
        settings["clips"] = str(tmp_path / "clips.tsv")
    losses = []
    Trainer(config(clips, **{"discriminators": ("mpd-slim", "msd-slim"), **settings}), tmp_path / "out").run(
        lambda step, parts: losses.append(parts)
    )
    assert all(np.isfinite(list(parts.values())).all() for parts in losses)
    assert load(tmp_path / "out" / "model").reads["kind"] == ("units" if vocoder == "unit-hifigan" else "mel")


def test_fine_tuning(clips, tmp_path):
    Trainer(config(clips, steps=2), tmp_path / "first").run()
    further = Trainer(config(clips, start_from=str(tmp_path / "first" / "model"), shape={}), tmp_path / "second")
    first, second = load(tmp_path / "first" / "model").state_dict(), further.averaged_model().state_dict()
    assert all(torch.allclose(first[key], second[key]) for key in first)
    with pytest.raises(ValueError, match="start_from is a vocos; vocoder is 'hifigan'"):
        Trainer(replace(further.config, vocoder="hifigan"), tmp_path / "third")


def test_nan_stops_before_the_checkpoint(clips, tmp_path):
    trainer = Trainer(config(clips, steps=9, save_every=1), tmp_path)
    trainer.train_step(Segment(*(part[None].repeat(4, 1, *[1] * (part.ndim - 1)) for part in trainer.segments[0])))
    trainer.save()
    before = (tmp_path / "state.pt").read_bytes()
    with torch.no_grad():
        trainer.generator.out.bias.fill_(float("nan"))
    with pytest.raises(
        ValueError,
        match=r"the loss of the \w+ at step 0 is nan; restart.* lower learning_rate",
    ):
        trainer.run()
    assert (tmp_path / "state.pt").read_bytes() == before


def test_resumes_only_with_the_same_settings(clips, tmp_path):
    first = config(clips, steps=1)
    Trainer(first, tmp_path).run()
    with pytest.raises(ValueError, match="was started with batch=4; it can only be resumed with the same"):
        Trainer(replace(first, batch=2), tmp_path).resume()
    more = Trainer(replace(first, steps=3), tmp_path)
    more.resume()
    assert more.step == 1
    more.run()
    assert more.step == 3


def test_older_checkpoints_resume(clips, tmp_path):
    """They call the discriminators `jury`, and the fingerprint of a pack `made_of`."""
    recipe = config(clips, steps=1)
    Trainer(recipe, tmp_path).run()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    for part in (state, state["optimizers"]):
        part["jury"] = part.pop("discriminators")
    torch.save(state, tmp_path / "state.pt")
    index = json.loads((tmp_path / "pack" / "index.json").read_text())
    index["made_of"] = index.pop("fingerprint")
    (tmp_path / "pack" / "index.json").write_text(json.dumps(index))
    trainer = Trainer(recipe, tmp_path)
    trainer.resume()
    assert trainer.step == 1
    assert all(torch.equal(value, state["jury"][key]) for key, value in trainer.discriminators.state_dict().items())


def test_bfloat16(clips, tmp_path):
    """Half the bits lead nearly the same way; the weights stay float32."""
    losses = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state()  # a process has one precision
        trainer = Trainer(config(clips, steps=4, precision=precision, learning_rate=1e-3), tmp_path / precision)
        trainer.run(lambda step, parts: losses.append(parts["generator"]))
        assert all(value.dtype == torch.float32 for value in trainer.averaged_model().state_dict().values())
    AcceleratorState._reset_state()
    assert losses[:4] != losses[4:]
    assert losses[:4] == pytest.approx(losses[4:], rel=0.02)


def test_time_limit(clips, tmp_path):
    steps = []
    Trainer(config(clips, steps=10_000, minutes=1e-4), tmp_path).run(lambda step, losses: steps.append(step))
    assert len(steps) < 50
    assert (tmp_path / "state.pt").exists()


def test_tensorboard_log(clips, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    Trainer(config(clips, steps=2, log_every=1, valid_every=2, valid_clips=str(clips)), tmp_path).run()
    board = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"train/mel", "train/discriminator", "valid/mel"} <= set(board.Tags()["scalars"])
    assert {"real/0 0.wav", "generated/0 0.wav"} <= set(board.Tags()["audio"])
    assert "mel/0 0.wav" in board.Tags()["images"]


# ---- as processes


def command(clips, folder, *settings, launcher=()):
    recipe = folder.with_suffix(".yaml")
    shape = "{width: 64, ffn_dim: 128, depth: 2}"
    recipe.write_text(f"batch: 4\nsegment: 16\nadversarial_from: 3\ndiscriminators: [mpd-slim]\nshape: {shape}\n")
    words = ["ssl_vc", "train-vocoder", str(recipe), "-o", str(folder), f"clips={clips}", "log_every=1", "--json"]
    return [sys.executable, *launcher, "-m", *words, *settings]


def finish(words):
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_killed_and_resumed_bit_for_bit(clips, tmp_path):
    settings = ("save_every=4", "steps=14")
    finish(command(clips, tmp_path / "whole", *settings))
    words = command(clips, tmp_path / "cut", *settings)
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in process.stdout:  # so it dies in the middle of some step after the sixth
        if json.loads(line)["step"] >= 6:
            break
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (tmp_path / "cut" / "state.pt").exists()
    reports = finish([*words, "--resume"])
    assert reports[0]["step"] in (5, 9, 13)  # saved after 4, 8 or 12
    models = [tmp_path / name / "model" / "model.safetensors" for name in ("cut", "whole")]
    assert models[0].read_bytes() == models[1].read_bytes()
    cut, whole = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("cut", "whole"))
    assert cut["step"] == whole["step"] == 14
    for side in ("generator", "discriminators", "averaged"):
        assert all(torch.equal(cut[side][key], whole[side][key]) for key in whole[side])
    for side, optimizer in whole["optimizers"].items():
        for index, moments in optimizer["state"].items():
            assert all(torch.equal(moments[key], cut["optimizers"][side]["state"][index][key]) for key in moments)


def test_a_training_in_use_is_refused_and_a_killed_one_is_free(clips, tmp_path, capsys):
    words = command(clips, tmp_path / "run", "save_every=1", "steps=100000", "workers=1")
    with subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "run" / "state.pt").exists() and process.poll() is None:
            time.sleep(0.05)
        with pytest.raises(SystemExit) as stop:
            main([*words[3:], "--resume", "steps=1"])
        running = process.poll() is None
        process.send_signal(signal.SIGKILL)
    told = capsys.readouterr().err.splitlines()[-1]
    assert (running, stop.value.code) == (True, 1)
    assert told == f"error: another process is working in {tmp_path / 'run'}; wait for it, or use another folder."
    with pytest.raises(SystemExit) as stop:  # at once, though a worker of the data loader may outlive it
        main([*words[3:], "--resume", "steps=1"])
    assert stop.value.code == 0
    assert not (tmp_path / "run" / ".lock").exists()


def test_two_processes_match_one(clips, tmp_path):
    settings = ("steps=6", "learning_rate=0.001", "stft_weight=1")
    one = finish(command(clips, tmp_path / "one", *settings))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    two = finish(command(clips, tmp_path / "two", *settings, launcher=launcher))
    assert [line["step"] for line in two] == [line["step"] for line in one] == [1, 2, 3, 4, 5, 6]
    for ours, theirs in zip(one, two, strict=True):
        for name in ours.keys() - {"steps_per_second"}:
            assert abs(ours[name] - theirs[name]) <= 1e-4 * max(abs(ours[name]), 1), (name, ours, theirs)
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two")]
    # where a gradient is next to nothing, its rounding decides which way AdamW goes: the mean is what must agree
    assert max(float((weights[0][key] - weights[1][key]).abs().mean()) for key in weights[0]) < 1e-5


def test_command_refuses(clips, tmp_path, capsys):
    def error(*words, status):
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        assert stop.value.code == status
        return capsys.readouterr().err.splitlines()[-1]

    words = command(clips, tmp_path / "run", "steps=1")[3:]
    assert "error: there is nothing to train on" in error(*words, "clips=''", status=1)
    assert "Key 'stepps' not in 'TrainConfig'" in error(*words, "stepps=3", status=2)
    assert "vocoder is 'wavenet'; it must be one of hifigan, vocos" in error(*words, "vocoder=wavenet", status=2)
    assert "done: step 1" in error(*words, status=0)
    assert "holds a training; resume it with --resume" in error(*words, status=1)


# ---- parts of a step


def test_learning_rates():
    rate = {
        name: TrainConfig(schedule=name, learning_rate=1.0, decay=0.5, steps=4000).learning_rate_at
        for name in ("constant", "exponential", "cosine")
    }
    assert [rate["constant"](step) for step in (0, 3999)] == [1, 1]
    assert [rate["exponential"](step) for step in (0, 1000, 2000)] == [1, 0.5, 0.25]
    assert [round(rate["cosine"](step), 9) for step in (0, 2000, 4000, 9000)] == [1, 0.5, 0, 0]


def test_the_average_forgets_the_start_first():
    network = torch.nn.Linear(1, 1, bias=False)
    averaged = {"weight": torch.zeros(1, 1)}
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 4.0)):
        network.weight.data.fill_(value)
        update_ema(averaged, network, 0.15, step)
        keep = min(0.15, (1 + step) / (10 + step))  # .1, .15, .15
        expected = keep * expected + (1 - keep) * value
        assert averaged["weight"].item() == pytest.approx(expected)
    update_ema(averaged, network, 0.0, 9)
    assert averaged["weight"].item() == 4.0


def test_losses_are_weighted_and_summed(clips, tmp_path, monkeypatch):
    small_discriminators(monkeypatch)
    weights = {"mel_weight": 3.0, "stft_weight": 5.0, "adversarial_weight": 7.0, "feature_weight": 11.0}
    parts = Trainer(config(clips, **weights), tmp_path).train_step(batch_of(clips, tmp_path))
    expected = 3 * parts["mel"] + 5 * parts["stft"] + 7 * parts["adversarial"] + 11 * parts["matching"]
    assert parts["generator"] == pytest.approx(expected, rel=1e-4)
    assert all(value > 0 for value in parts.values())


def batch_of(clips, folder):
    segments = Trainer(config(clips), folder).segments
    return Segment(*(torch.stack(parts) for parts in zip(segments[0], segments[1], strict=True)))


def test_the_model_is_the_average(clips, tmp_path):
    trainer = Trainer(config(clips, average=0.9, adversarial_from=9, learning_rate=1e-2), tmp_path)
    batch = batch_of(clips, tmp_path)
    kept = {name: value.clone() for name, value in trainer.generator.state_dict().items()}
    for step in range(3):
        trainer.train_step(batch)
        trainer.step += 1
        now = trainer.generator.state_dict()
        kept = {name: torch.lerp(now[name], value, (1 + step) / (10 + step)) for name, value in kept.items()}
    model = trainer.averaged_model().state_dict()
    assert all(torch.allclose(model[name], kept[name], atol=1e-6) for name in model)
    assert any(not torch.allclose(model[name], now[name], atol=1e-4) for name in model)


def test_settings_reach_the_optimizer(clips, tmp_path):
    settings = {"betas": (0.5, 0.6), "weight_decay": 0.3, "max_norm": 1e-3, "schedule": "cosine", "steps": 10}
    trainer = Trainer(config(clips, **settings, adversarial_from=9), tmp_path)
    trainer.step = 5
    trainer.train_step(batch_of(clips, tmp_path / "other"))
    (group,) = trainer.optimizers["generator"].param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.5, 0.6), 0.3, pytest.approx(1e-4))
    squares = sum(float(p.grad.square().sum()) for p in trainer.generator.parameters())
    assert squares**0.5 == pytest.approx(1e-3, rel=0.01)


def test_mel_frames_follow_the_rate(clips, tmp_path):
    """24 kHz output from mel frames at 24 kHz needs no setting but the shape."""
    shape = SMALL_VOCOS | {"n_fft": 1920, "hop": 480, "sample_rate": 24_000}
    trainer = Trainer(config(clips, shape=shape, steps=1), tmp_path)
    trainer.run()
    assert load(tmp_path / "model").reads["sample_rate"] == 24_000


# ---- refusals


def test_frames_of_another_duration_are_refused(clips, tmp_path):
    reads = {"kind": "ssl", "dim": 24, "sample_rate": 16_000, "hop_length": 320}
    shape = SMALL_VOCOS | {"sample_rate": 24_000}
    with pytest.raises(
        ValueError, match="a frame of 320 samples at 16000 Hz is not as long as the 320 samples at 24000"
    ):
        Trainer(config(clips, features="ssl", shape=shape), tmp_path, lambda wav, rate: wav[:, None], reads)
    assert not (tmp_path / "pack").exists()


def test_fine_tuning_on_other_features_is_refused(clips, tmp_path):
    Trainer(config(clips, steps=1), tmp_path / "first").run()
    further = config(clips, start_from=str(tmp_path / "first" / "model"), shape={}, mel={"scale": "htk"})
    with pytest.raises(ValueError, match="scale is 'htk' where 'slaney' is wanted"):
        Trainer(further, tmp_path / "second")


def test_resuming_on_other_clips_is_refused(clips, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(clips, mine)
    recipe = config(mine, steps=1)
    Trainer(recipe, tmp_path / "run").run()
    before = (tmp_path / "run" / "pack" / "index.json").read_bytes()
    shutil.copy(mine / "0.wav", mine / "new.wav")
    with pytest.raises(ValueError, match="the clips are not those that the training in"):
        Trainer(replace(recipe, steps=2), tmp_path / "run")
    with pytest.raises(ValueError, match="was started with clips="):
        Trainer(replace(recipe, clips=str(clips)), tmp_path / "run")
    assert (tmp_path / "run" / "pack" / "index.json").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"shape": {"foo": 1}}, "shape or mel has an unknown setting"),
        ({"mel": {"bands": "many"}}, "bands is 'many'"),
        ({"mel": {"bandes": 3}}, "unknown setting"),
        ({"shape": {"kind": "hifigan"}}, "set `vocoder` instead"),
        ({"discriminators": ()}, "discriminators is empty"),
        ({"discriminators": ("mpd", "mmd")}, "they must be of mpd"),
        ({"betas": (0.9, 2.0)}, "at least 0 and below 1"),
        ({"learning_rate": -1.0}, "must not be negative"),
        ({"average": 1.0}, "at least 0 and below 1"),
        ({"batch": 0}, "at least 1"),
    ],
)
def test_invalid_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(**settings)
