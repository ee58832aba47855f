"""Pretraining from sound files to an encoder: exact, resumable, the same for any number of processes."""

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import HubertModel

import ssl_vc
from pretrain import SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.data.manifest import decode, read_manifest
from pretrain.data.shards import write_shards
from pretrain.labels.features import MfccFeatures
from pretrain.labels.kmeans_labels import label_clips
from pretrain.objectives import OBJECTIVES
from pretrain.pipeline import Pretraining
from pretrain.recipe import Iteration, LabelConfig, PretrainConfig
from pretrain.training.config import TextConfig, TrainConfig
from pretrain.training.metrics_log import read_metrics
from pretrain.training.validation import moments, spread
from ssl_vc.features.extractor import Extractor

SHAPE = {"dim": 16, "conv_dim": 16, "depth": 2, "heads": 2, "ffn_dim": 32, "pos_kernel": 8, "pos_groups": 2}
EVERY = {"log_every": 1, "valid_every": 100, "save_every": 2, "workers": 0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, speech):
    """A table of twelve clips of three speakers, two of them to validate on."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = ["path\tspeaker\tsplit\ttext"]
    for clip in range(12):
        wav = speech(1.0 + 0.15 * clip, pitch=100 + 40 * (clip % 3), text=clip)
        ssl_vc.write(folder / f"{clip}.wav", wav, 16_000)
        rows.append(f"{clip}.wav\tspeaker{clip % 3}\t{'valid' if clip > 9 else 'train'}\tthe cat sat")
    (folder / "clips.tsv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "clips.tsv"


@pytest.fixture
def recipe(corpus):
    """Make a recipe of two short iterations."""

    def make(shape=(), **train):
        lengths = {"seconds": 6.0, "longest": 2.0, "shortest": 0.5}
        config = TrainConfig(**{**lengths, "steps": 4, "precision": "float32", **EVERY, **train})  # on any machine
        labels = [LabelConfig(clusters=8), LabelConfig("previous", 1, 12)]
        return PretrainConfig(
            encoder="tiny",
            shape={**SHAPE, "dropout": 0.1, "layer_drop": 0.2, **dict(shape)},
            clips=str(corpus),
            split="train",
            valid_clips=str(corpus),
            valid_split="valid",
            train=config,
            iterations=[Iteration([one]) for one in labels],
        )

    return make


def trainer_of(recipe, folder, number=1):
    whole = Pretraining(recipe, folder)
    whole.open()
    return whole._trainer(number, recipe.train_config(number), whole._labels(number))


def weights_of(folder):
    return torch.load(folder / "state.pt", weights_only=True)["weights"]


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_one_call_does_everything(recipe, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="pretrain")
    steps = []
    out = Pretraining(recipe(), tmp_path).run(lambda number, _, step, metrics: steps.append((number, step)))
    assert steps == [(number, step) for number in (1, 2) for step in (1, 2, 3, 4)]
    encoder = SpeechEncoder.from_pretrained(out)
    assert encoder.config.dim == 16
    assert torch.isfinite(encoder(torch.randn(1, 8000))).all()
    lines = read_metrics(tmp_path / "2")
    assert [line["step"] for line in lines if line["of"] == "train"] == [1, 2, 3, 4]
    (valid,) = (line for line in lines if line["of"] == "valid")
    assert 0 <= valid["accuracy"] <= 1
    assert 1 <= valid["label_perplexity"] <= 12
    assert {"masked", "seen_accuracy", "dead"} <= valid.keys()
    assert "perplexity" in caplog.text
    # again: every stage is skipped
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    Pretraining(recipe(), tmp_path).run(lambda *_: pytest.fail("trained again"))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_phones_are_predicted_where_they_are_aligned(recipe, tmp_path, monkeypatch):
    class Known(dict):
        symbols, fingerprint = ["SIL", "AA"], "made up"

    def aligned(clips, folder):
        assert len(clips) == 12 and folder == tmp_path / "phones"
        return Known({clip.key: np.ones(200, np.int64) for clip in clips[::2]})

    monkeypatch.setattr("pretrain.pipeline.align", aligned)
    config = recipe(settings={"seen_weight": 1.0}, steps=12, learning_rate=0.01)
    Pretraining(replace(config, iterations=[Iteration([LabelConfig("phones")])]), tmp_path).run()
    *_, valid = (line for line in read_metrics(tmp_path / "1") if line["of"] == "valid")
    assert valid["accuracy"] == 1 and valid["label_perplexity"] == 1


SETTINGS = {
    "wav2vec2": {"negatives": 5, "target_dim": 8, "codes": 4},
    "best_rq": {"codes": 16},
    "data2vec": {"decay": [0.5, 0.9]},
    "cpc": {"steps": 3, "negatives": 4},
    "wav2vec": {"steps": 3, "negatives": 4},
    "vq_wav2vec": {"steps": 3, "negatives": 4},
    "discrete_bert": {},
    "dinosr": {"codes": 16, "decay": [0.5, 0.9]},
    "spidr": {"codes": 16, "decay": [0.5, 0.9]},
    "frame_contrast": {"chunk_probability": 0.5, "mix_probability": 0.5},
}
CAUSAL = {"frontend": "conv", "conv_norm": "layer", "causal": True, "position": "none"}
SHAPES = {
    "cpc": CAUSAL | {"context": "gru"},
    "wav2vec": CAUSAL | {"context": "conv"},
    "vq_wav2vec": CAUSAL | {"context": "conv", "quantiser": "kmeans", "codes": 8},
    "discrete_bert": {"quantiser": "gumbel", "codes": 8},
    "spidr": {"layer_drop": 0.0},
}


@pytest.fixture(scope="module")
def parallel_corpus(corpus, tmp_path_factory):
    """The corpus with a copy of each clip, which stands for the sentence in another voice."""
    folder = tmp_path_factory.mktemp("parallel")
    head, *lines = corpus.read_text(encoding="utf-8").splitlines()
    rows = [f"{head}\tsentence"]
    for number, line in enumerate(lines):
        shutil.copy(corpus.parent / f"{number}.wav", folder / f"{number}.wav")
        rows += [f"{line}\t{number}", f"{corpus.parent}/{line}\t{number}"]
    (folder / "clips.tsv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "clips.tsv"


@pytest.mark.parametrize("name", SETTINGS)
def test_every_objective_without_labels_trains_resumes_and_is_exported(name, recipe, parallel_corpus, tmp_path, speech):
    train = recipe(
        SHAPES.get(name, ()), objective=name, settings=SETTINGS[name], speeds=(0.8, 1.2), channel=0.5, steps=3
    )
    clips, iterations = str(parallel_corpus), [Iteration([])]
    config = replace(train, clips=clips, valid_clips=clips, storage="files", matching_layer=1, iterations=iterations)
    out = Pretraining(config, tmp_path / "whole").run()
    frames = Extractor(SpeechEncoder.from_pretrained(out))(speech(1.0))
    assert frames.shape == (49, 16) and frames.isfinite().all()
    assert (out / "quantiser.safetensors").exists() == bool(OBJECTIVES[name][1].exported)
    *_, valid = (line for line in read_metrics(tmp_path / "whole" / "1") if line["of"] == "valid")
    assert valid["effective_rank"] > 2 and all(math.isfinite(value) for key, value in valid.items() if key != "of")

    def interrupt(number, trainer, step, metrics):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Pretraining(config, tmp_path / "parts").run(interrupt)
    Pretraining(config, tmp_path / "parts").run()
    assert_equal(weights_of(tmp_path / "whole" / "1"), weights_of(tmp_path / "parts" / "1"))


def test_methods_with_labels_are_refused_without(recipe):
    with pytest.raises(ValueError, match="iteration 1 has no labels"):
        replace(recipe(), iterations=[Iteration([])])


def test_silence_is_trimmed_and_speaker_labels_are_adversarial(recipe, tmp_path, monkeypatch):
    class Known(dict):
        symbols, fingerprint = ["SIL", "AA"], "made up"

    phones = np.repeat([0, 1, 0], [20, 12, 168])  # 12 frames of speech, so 32 are left of each clip

    monkeypatch.setattr("pretrain.pipeline.align", lambda clips, _: Known({clip.key: phones for clip in clips[1:]}))
    config = recipe(trimmed=True, seconds=20.0)
    labels = [LabelConfig("phones"), LabelConfig("speakers", weight=-0.2)]
    seconds = []
    monkeypatch.setattr(Batch, "seconds", property(lambda batch: seconds.append(float(batch.lengths.max())) or 1.0))
    Pretraining(replace(config, iterations=[Iteration(labels)]), tmp_path).run()
    assert set(seconds) == {31 * 320 + 400.0}
    *_, valid = (line for line in read_metrics(tmp_path / "1") if line["of"] == "valid")
    assert {"accuracy_0", "accuracy_1"} <= valid.keys()
    with pytest.raises(ValueError, match="1 holds a training with other settings"):
        shown = [labels[0], replace(labels[1], weight=1.0)]
        Pretraining(replace(config, iterations=[Iteration(shown)]), tmp_path).run()
    with pytest.raises(ValueError, match="trimmed needs phone alignments"):
        Pretraining(replace(config, iterations=[Iteration([LabelConfig(clusters=8)])]), tmp_path / "other").run()


def test_an_exported_encoder_may_have_half_the_size(recipe, tmp_path):
    sizes = {}
    config = replace(recipe(), iterations=recipe().iterations[:1])
    for half in (False, True):
        out = Pretraining(replace(config, half=half), tmp_path).run()  # the second time only the export is made
        sizes[half] = (out / "model.safetensors").stat().st_size
        encoder = SpeechEncoder.from_pretrained(out)
        rounded = torch.cat([weight.flatten() for weight in encoder.state_dict().values()])
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded.half().float(), rounded) == half
    assert sizes[True] < 0.6 * sizes[False]


def test_an_exported_encoder_may_be_centred(recipe, tmp_path, caplog):
    config = replace(recipe(), iterations=recipe().iterations[:1], matching_layer=1)
    plain, moved = (
        SpeechEncoder.from_pretrained(Pretraining(replace(config, centred=of), tmp_path).run()) for of in (False, True)
    )
    assert moved.config == replace(plain.config, depth=1)
    wavs = [torch.from_numpy(decode(clip.path)) for clip in read_manifest(config.clips, "train")]
    before, after = (torch.cat([of(wav[None], layer=1)[0] for wav in wavs]) for of in (plain, moved))
    assert before.mean(0).norm() > 0.1
    assert after.mean(0).abs().max() < 1e-4
    assert torch.allclose(after, before - before.mean(0), atol=1e-4)  # and nothing else


@pytest.mark.parametrize("changes", [{}, {"matching_layer": 0}, {"matching_layer": 1, "storage": "shards"}])
def test_what_cannot_be_centred_is_refused(recipe, changes):
    with pytest.raises(ValueError, match="centred needs a matching_layer"):
        replace(recipe(), centred=True, **changes)


def test_another_recipe_is_not_mixed_in(recipe, tmp_path):
    first = replace(recipe(), iterations=recipe().iterations[:1])
    Pretraining(first, tmp_path).run()
    kept = (tmp_path / "1" / "state.pt").stat().st_mtime_ns
    with pytest.raises(ValueError, match="1 holds a training with other settings"):
        Pretraining(replace(first, train=replace(first.train, max_norm=3.0)), tmp_path).run()
    longer = replace(first, iterations=[*first.iterations, Iteration([LabelConfig("previous", 2, 9)])])
    Pretraining(longer, tmp_path).run()  # an iteration more keeps those before it
    assert (tmp_path / "1" / "state.pt").stat().st_mtime_ns == kept
    assert json.loads((tmp_path / "2" / "done.json").read_text())["step"] == 4


KILLED = """
import json, os, signal, sys
from pretrain.objectives import OBJECTIVES
from pretrain.pipeline import Pretraining
from pretrain.recipe import *
facts = json.loads(sys.argv[1])
text = TextConfig(0.5, units="characters")
train, iterations = TrainConfig(**facts.pop("train"), text=text), [Iteration([LabelConfig(clusters=8)])]
def on_step(number, trainer, step, metrics):
    if step == 3: os.kill(os.getpid(), signal.SIGKILL)
Pretraining(PretrainConfig(**facts, train=train, iterations=iterations), sys.argv[2]).run(on_step)
"""


def test_a_killed_training_resumes_exactly(recipe, tmp_path):
    whole = replace(recipe(ema=0.9, text=TextConfig(0.5, units="characters")), valid_clips="")
    whole = replace(whole, iterations=[Iteration([LabelConfig(clusters=8)])])
    Pretraining(whole, tmp_path / "whole").run()
    train = {name: value for name, value in vars(whole.train).items() if name != "text"}
    facts = {name: getattr(whole, name) for name in ("encoder", "shape", "clips", "split")}
    arguments = json.dumps({**facts, "train": train})
    done = subprocess.run(
        [sys.executable, "-c", KILLED, arguments, str(tmp_path / "cut")], capture_output=True, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert torch.load(tmp_path / "cut" / "1" / "state.pt", weights_only=True)["step"] == 2
    again = Pretraining(whole, tmp_path / "cut")
    assert again.interrupted
    again.run()
    assert not again.interrupted
    assert_equal(weights_of(tmp_path / "cut" / "1"), weights_of(tmp_path / "whole" / "1"))
    mine, theirs = (SpeechEncoder.from_pretrained(tmp_path / name / "encoder") for name in ("cut", "whole"))
    assert_equal(mine.state_dict(), theirs.state_dict())
    assert [line["step"] for line in read_metrics(tmp_path / "cut" / "1")] == [1, 2, 3, 4]


def test_checkpoints_of_earlier_versions_are_resumed(recipe, tmp_path):
    trainer = trainer_of(recipe(ema=0.9, text=TextConfig(0.5, units="characters")), tmp_path)
    trainer.run()
    file = tmp_path / "1" / "state.pt"
    state = torch.load(file, weights_only=True)
    old = {{"lr_scale": "slower", "ema": "averaged"}.get(key, key): value for key, value in state.items()}

    def old_name(name):
        return name.replace("ctc_head.", "speller.")

    old["weights"] = {old_name(name): value for name, value in state["weights"].items()}
    old["optimizer"]["state"] = {old_name(name): value for name, value in state["optimizer"]["state"].items()}
    for group in old["optimizer"]["param_groups"]:
        group["params"] = [old_name(name) for name in group["params"]]
    assert any(name.startswith("speller.") for name in old["weights"])
    torch.save(old, file)
    again = trainer_of(recipe(ema=0.9, text=TextConfig(0.5, units="characters")), tmp_path)
    again.resume()
    assert again.step == trainer.step == 4
    assert_equal(again.model.state_dict(), trainer.model.state_dict())
    assert_equal(again.encoder().state_dict(), trainer.encoder().state_dict())
    moments = [optimizer.optimizer.state_dict()["state"] for optimizer in (again.optimizer, trainer.optimizer)]
    assert all(torch.equal(moments[0][n]["exp_avg"], moments[1][n]["exp_avg"]) for n in moments[1])


GRADIENTS = """
import json, sys, torch
from pathlib import Path
from pretrain.objectives import OBJECTIVES
from pretrain.pipeline import Pretraining
from pretrain.recipe import *
facts = json.loads(sys.argv[1])
facts["train"] = TrainConfig(**facts["train"])
config = PretrainConfig(**facts, iterations=[Iteration([LabelConfig(clusters=8)])])
run = Pretraining(config, sys.argv[2])
run.open()
trainer = run._trainer(1, config.train_config(1), run._labels(1))
assert trainer.world_size == 2
trainer.folder = Path(sys.argv[4])
trainer.resume()
metrics = trainer.train_step([next(iter(trainer.batches(0, trainer.accelerator.process_index, 2)))])
found = trainer.validate()
if trainer.is_main:
    learner = trainer.accelerator.unwrap_model(trainer.model)
    torch.save([{n: p.grad for n, p in learner.named_parameters() if p.grad is not None}, metrics, found], sys.argv[3])
torch.distributed.barrier()  # or a process that ends first aborts the other's threads
torch.distributed.destroy_process_group()
"""


def test_two_processes_learn_what_one_does(recipe, tmp_path):
    config = recipe(shape={"dropout": 0.0, "attention_dropout": 0.0, "layer_drop": 0.0}, max_norm=0.0)
    config = replace(config, iterations=config.iterations[:1])
    torch.manual_seed(0)
    trainer = trainer_of(config, tmp_path / "one")
    trainer.save()  # its weights are the others' too
    metrics = trainer.train_step([next(iter(trainer.batches(0, 0, 1)))])
    found = trainer.validate()
    mine = {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}

    names = ("encoder", "shape", "clips", "split", "valid_clips", "valid_split")
    train = {name: value for name, value in vars(config.train).items() if name != "text"}
    facts = json.dumps({**{name: getattr(config, name) for name in names}, "train": train})
    script = tmp_path / "script.py"
    script.write_text(GRADIENTS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29611", script]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(ssl_vc.__file__).parents[1])}
    done = subprocess.run(
        [*command, facts, tmp_path / "two", tmp_path / "out.pt", tmp_path / "one" / "1"],
        capture_output=True,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    theirs, their_figures, their_found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert theirs.keys() == mine.keys()
    whole = torch.cat([value.flatten() for value in mine.values()])
    other = torch.cat([theirs[name].flatten() for name in mine])
    assert (whole - other).norm() <= 1e-4 * whole.norm()
    for name in ("masked", "features", "accuracy", "gradient", "seconds"):
        assert their_figures[name] == pytest.approx(metrics[name], rel=1e-4)
    assert their_found["masked"] == pytest.approx(found["masked"], rel=1e-4)


def test_a_collapsed_encoder_stops_the_training(recipe, tmp_path):
    encoder = SpeechEncoder(recipe().encoder_config())
    with torch.no_grad():
        encoder.transformer.norm.weight.zero_()
        encoder.transformer.norm.bias.fill_(1)  # which is all that frames are
    encoder.save_pretrained(tmp_path / "collapsed")
    config = replace(
        recipe(steps=1, learning_rate=1e-9),
        iterations=[Iteration([LabelConfig(clusters=8)], str(tmp_path / "collapsed"))],
    )
    with pytest.raises(ValueError, match=r"the encoder has collapsed by step 1: its frames .* \(effective rank"):
        Pretraining(config, tmp_path / "run").run()


@given(st.integers(2, 6))
@settings(max_examples=5, deadline=None)
def test_the_effective_rank_is_the_number_of_equal_directions(rank):
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=rank)))  # uncorrelated, of variance 1
    frames = torch.nn.functional.pad(signs, (0, 8 - rank)) + 3
    found = spread(moments(frames[None], torch.ones(1, len(frames), dtype=torch.bool)))
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-4)
    assert found["deviation"] == pytest.approx((rank / (rank + 72)) ** 0.5, rel=1e-4)


def test_accumulated_batches_learn_what_one_does(recipe, tmp_path):
    config = recipe(shape={"dropout": 0.0, "attention_dropout": 0.0, "layer_drop": 0.0}, max_norm=0.0)
    trainer = trainer_of(config, tmp_path)
    before = trainer.encoder().state_dict()

    trainer.config = replace(config.train, learning_rate=0.0)
    batch = next(iter(trainer.batches(0, 0, 1)))
    assert len(batch.wav) > 2

    def rows(which):
        parts = {name: value[which] for name, value in vars(batch).items() if name not in ("labels", "extra")}
        return Batch(**parts, labels=batch.labels[:, which])

    def gradient(*batches):
        metrics = trainer.train_step(list(batches))
        assert_equal(trainer.encoder().state_dict(), before)
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None]), metrics

    whole, metrics = gradient(batch)
    parts, same = gradient(rows(slice(1)), rows(slice(1, None)))
    assert (whole - parts).norm() <= 1e-4 * whole.norm()
    assert same["masked"] == pytest.approx(metrics["masked"], rel=1e-5)


def test_a_nan_gradient_restarts_from_the_last_checkpoint(recipe, tmp_path, caplog, monkeypatch):
    trainer = trainer_of(recipe(steps=6), tmp_path)
    learn, asked = type(trainer).train_step, []

    def sometimes(self, batches):
        asked.append(self.step)
        if len(asked) == 4:  # at step 3, once
            with torch.no_grad():
                next(self.model.parameters()).fill_(math.nan)
        return learn(self, batches)

    monkeypatch.setattr(type(trainer), "train_step", sometimes)
    trainer.run()
    assert asked == [0, 1, 2, 3, 2, 3, 4, 5]
    assert "not finite at step 3; restarting from step 2" in caplog.text
    assert all(value.isfinite().all() for value in weights_of(tmp_path / "1").values())
    assert trainer.lr_scale == 0.5


def test_a_nan_gradient_halves_the_learning_rate_each_time(recipe, tmp_path, monkeypatch):
    trainer, rates = trainer_of(recipe(), tmp_path), []
    monkeypatch.setattr(type(trainer), "train_step", lambda self, _: rates.append(self.lr_scale))
    with pytest.raises(ValueError, match="not finite 4 times, last at step 0"):
        trainer.run()
    assert rates == [1.0, 0.5, 0.25, 0.125]


class Clock:
    """Stands for the module `time`, and advances by 20 ms whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 0.02
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pretrain.training.trainer.time", clock)
    return clock


def test_a_training_limited_by_time_ends_with_a_learning_rate_of_zero(recipe, tmp_path, clock):
    trainer = trainer_of(recipe(steps=1_000_000, minutes=0.03, save_every=10**6), tmp_path)
    rates = []
    trainer.run(lambda step, metrics: rates.append(metrics["learning_rate"]))
    assert 1.8 <= trainer.elapsed < 1.9
    assert rates[-1] < 0.2 * max(rates) <= 0.2 * 5e-4
    assert rates.index(max(rates)) < len(rates) / 2
    assert torch.load(tmp_path / "1" / "state.pt", weights_only=True)["step"] == len(rates)


def test_the_last_step_is_saved_even_if_time_runs_out_after_a_step(recipe, tmp_path, clock):
    trainer = trainer_of(recipe(steps=1_000_000, minutes=0.03, save_every=10**6), tmp_path)
    steps = []

    def pause(step, metrics):
        steps.append(step)
        clock.now += 2 if step == 2 else 0

    trainer.run(pause)
    assert torch.load(tmp_path / "1" / "state.pt", weights_only=True)["step"] == len(steps) == 3


def test_it_learns(recipe, tmp_path):
    """On vowels that follow each other at random, the hidden frames' clusters are guessed from their neighbours'."""
    config = recipe(steps=120, learning_rate=5e-3, save_every=1000, settings={"mask_length": 3}, shape={"dropout": 0.0})
    trainer = trainer_of(replace(config, shape={**SHAPE, "dropout": 0.0, "layer_drop": 0.0}), tmp_path)
    before = trainer.validate()
    trainer.run()
    after = trainer.validate()
    assert after["masked"] < 0.8 * before["masked"]
    assert after["accuracy"] > before["accuracy"] + 0.05
    assert after["dead"] <= before["dead"]


def test_the_average_follows_the_encoder(recipe, tmp_path):
    trainer = trainer_of(recipe(ema=0.5, learning_rate=1e-2), tmp_path)
    trainer.run()
    kept = SpeechEncoder.from_pretrained(tmp_path / "1" / "model").state_dict()
    last = {k.removeprefix("encoder."): v for k, v in weights_of(tmp_path / "1").items() if k.startswith("encoder.")}
    difference = max(float((kept[name] - last[name]).abs().max()) for name in kept)
    assert 0 < difference < 0.1


def test_a_convolutional_encoder_is_exported_for_transformers(recipe, tmp_path):
    conv = {"frontend": "conv", "pre_norm": False, "pos_kernel": 8}
    config = recipe(shape=conv, steps=1)
    config = replace(config, iterations=config.iterations[:1], matching_layer=1)
    out = Pretraining(config, tmp_path).run()
    encoder = SpeechEncoder.from_pretrained(out)
    assert encoder.config.matching_layer == 1
    theirs = HubertModel.from_pretrained(tmp_path / "transformers").eval()
    wav = torch.randn(1, 6000)
    with torch.no_grad():
        torch.testing.assert_close(theirs(wav).last_hidden_state, encoder(wav), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": "abc"}, "steps is 'abc'; it must be a number"),
        ({"settings": {"mask_probability": "much"}}, "settings of hubert cannot be used"),
        ({"objective": "cbc"}, "possible are hubert, wavlm"),
        ({"settings": {"mask": 1}}, "settings of hubert has 'mask'; possible are"),
        ({"warm_up": 1.0}, "below 1"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_recipes_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**wrong)


def test_iterations_are_checked(recipe):
    with pytest.raises(ValueError, match="no previous one"):
        replace(recipe(), iterations=[Iteration([LabelConfig("previous", 1)])])
    with pytest.raises(ValueError, match="train of iteration 1 has 'step'"):
        replace(recipe(), iterations=[Iteration([LabelConfig()], train={"step": 3})])
    with pytest.raises(ValueError, match="no labels"):
        replace(recipe(), iterations=[Iteration()])
    with pytest.raises(ValueError, match="iteration 2 names layer 3; this encoder has layers 0 to 2"):
        replace(recipe(), iterations=[recipe().iterations[0], Iteration([LabelConfig("previous", 3)])])
    with pytest.raises(ValueError, match="iteration 1 names layer 9"):
        recipe(text=TextConfig(0.5, layer=9))
    with pytest.raises(ValueError, match="shape has 'dimm'"):
        recipe(shape={"dimm": 3})
    with pytest.raises(ValueError, match="labels of 'mfc' are unknown"):
        LabelConfig("mfc")
    with pytest.raises(ValueError, match="set noise_clips"):
        recipe(objective="wavlm", settings={"noise_probability": 0.1})


def test_data_of_a_training_is_not_replaced(recipe, tmp_path):
    first = replace(recipe(), iterations=recipe().iterations[:1])
    Pretraining(first, tmp_path).run()
    before = (tmp_path / "pack" / "index.json").read_text()
    with pytest.raises(ValueError, match="other clips, which a training was run on"):
        Pretraining(replace(first, split="valid"), tmp_path).run()
    with pytest.raises(ValueError, match="labels of other clips, or with other settings"):
        Pretraining(replace(first, iterations=[Iteration([LabelConfig(clusters=9)])]), tmp_path).run()
    assert (tmp_path / "pack" / "index.json").read_text() == before


def test_a_foreign_folder_is_not_overwritten(recipe, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "thesis.txt").write_text("years")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="encoder was not written by"):
        Pretraining(replace(recipe(steps=1), iterations=recipe().iterations[:1]), tmp_path).run()
    assert (tmp_path / "encoder" / "thesis.txt").read_text() == "years"
    with pytest.raises(ValueError, match="is a file"):
        Pretraining(recipe(), tmp_path / "file")


def test_the_matching_layer_can_be_chosen_afterwards(recipe, tmp_path):
    first = replace(recipe(steps=1), iterations=recipe().iterations[:1])
    assert SpeechEncoder.from_pretrained(Pretraining(first, tmp_path).run()).config.matching_layer is None
    chosen = Pretraining(replace(first, matching_layer=2), tmp_path).run(lambda *_: pytest.fail("trained again"))
    assert SpeechEncoder.from_pretrained(chosen).config.matching_layer == 2


def test_shards_are_learned_from(recipe, corpus, tmp_path):
    """WavLM, with noise, out of two tar files, on labels made before; float32 after bfloat16."""
    clips = read_manifest(corpus, "train")
    label_clips(clips, tmp_path / "labels", MfccFeatures(), clusters=8)
    write_shards(clips, tmp_path / "shards", megabytes=0.3)
    settings, labels = {"mix_probability": 1.0, "noise_probability": 0.5}, [LabelConfig(str(tmp_path / "labels"))]
    config = replace(
        recipe(objective="wavlm", steps=3, text=TextConfig(0.1, units="characters")),
        clips=str(tmp_path / "shards"),
        split=None,
        storage="shards",
        noise_clips=str(corpus),
        iterations=[
            Iteration(labels, train={"precision": "bf16", "settings": settings}),
            Iteration(labels, "previous"),
        ],
        valid_clips="",
    )
    told = []
    Pretraining(config, tmp_path / "run").run(lambda number, _, step, metrics: told.append((number, metrics)))
    assert [number for number, _ in told] == [1, 1, 1, 2, 2, 2]
    assert all(math.isfinite(metrics["masked"]) for _, metrics in told)
    assert max(metrics["text"] for _, metrics in told) > 0  # a batch of long clips alone has none
    with pytest.raises(ValueError, match="shards need existing labels"):
        Pretraining(replace(config, iterations=[Iteration([LabelConfig()])]), tmp_path / "other").run()


def test_clips_without_usable_transcripts_are_refused(recipe, tmp_path):
    config = recipe(text=TextConfig(0.5, units="characters", languages=("de",)))
    with pytest.raises(ValueError, match="no uncropped clip has a usable transcript"):
        trainer_of(config, tmp_path)
