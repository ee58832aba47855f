"""data2vec: the published targets, predictions and loss; the teacher follows, and stays a teacher."""

import pytest
import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.encoder import foreign, names
from pretrain.objectives.data2vec import Data2Vec, Data2VecSettings
from pretrain.objectives.teacher import Teacher, annealed

SMALL = EncoderConfig.tiny(dim=16, conv_dim=16, depth=3, heads=2, ffn_dim=32, pos_kernel=8, pos_groups=2, dropout=0.3)


def batch_of(wav, lengths, mask):
    counts = (lengths - 400) // 320 + 1
    nothing = torch.zeros(len(wav), 0, dtype=torch.long), torch.zeros(len(wav), dtype=torch.long)
    return Batch(wav, lengths, counts, mask, torch.zeros(0, *mask.shape, dtype=torch.long), *nothing)


def small_batch():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[:, 4:14] = True
    return batch_of(torch.randn(2, 8000, generator=generator) * 0.1, torch.tensor([8000, 6000]), mask)


def test_the_whole_forward_is_the_published_one(golden):
    case = golden("data2vec_targets")
    model = case.config["model"]
    student = {
        name.removeprefix("student."): value for name, value in case.weights.items() if name.startswith("student.")
    }
    teacher = {
        f"encoder.{name.removeprefix('teacher.')}": value
        for name, value in case.weights.items()
        if name.startswith("teacher.")
    }
    hints = {"heads": model["encoder_attention_heads"], "pre_norm": False, "normalized": False}
    config, weights = foreign.convert(names.from_fairseq(student), hints)
    assert (config.pos_depth, config.conv_norm, config.depth) == (model["pos_conv_depth"], "layer", 3)
    encoder = SpeechEncoder(config).eval()
    encoder.load_state_dict(weights)
    objective = Data2Vec(Data2VecSettings(top_blocks=model["average_top_k_layers"]), encoder).eval()
    _, followed = foreign.convert(names.from_fairseq(student | teacher), hints)
    prefix = "transformer."
    objective.teacher.network.load_state_dict(
        {name.removeprefix(prefix): value for name, value in followed.items() if name.startswith(prefix)}
    )
    objective.project.load_state_dict({name: student[f"final_proj.{name}"] for name in ("weight", "bias")})
    wav, mask = case.input["source"], case.input["mask_indices"]
    batch = batch_of(wav, torch.tensor([wav.shape[1]] * len(wav)), mask)
    with torch.no_grad():
        x = encoder.embed(encoder.features(batch.wav, batch.lengths))
        inner = []
        objective.teacher.network(x, None, 3, inner=inner)
        for layer in (1, 2):
            wanted = case.output[f"teacher_layer{layer}"].transpose(0, 1)
            torch.testing.assert_close(inner[layer], wanted, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(objective.targets(x, batch.counts), case.output["targets"], atol=1e-4, rtol=1e-4)
        losses, stats, layers = objective(encoder, batch)
        predictions = objective.project(layers[-1][mask])
    torch.testing.assert_close(predictions, case.output["pred"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses["regression"], case.output["loss"], atol=0, rtol=1e-4)
    metrics = objective.metrics(stats)
    assert metrics["target_deviation"] == pytest.approx(float(case.output["target_var"]), rel=1e-4)
    assert metrics["prediction_deviation"] == pytest.approx(float(case.output["pred_var"]), rel=1e-4)
    found = [annealed(0.999, 0.9999, step, model["ema_anneal_end_step"]) for step in (0, 10, 50, 99)]
    assert found == pytest.approx(case.output["decay_at"].tolist(), abs=1e-7)


def test_the_teacher_follows_and_is_never_in_training():
    torch.manual_seed(0)
    encoder = SpeechEncoder(SMALL).train()
    objective = Data2Vec(Data2VecSettings(decay=(0.5, 0.5)), encoder).train()
    assert not any(module.training for module in objective.teacher.modules()) and objective.project.training
    assert not any(parameter.requires_grad for parameter in objective.teacher.parameters())
    before = objective.teacher.network.blocks[0].widen.weight.clone()
    with torch.no_grad():
        encoder.transformer.blocks[0].widen.weight.add_(1.0)
    objective.after_step(encoder, 0, 0.0, {})
    torch.testing.assert_close(objective.teacher.network.blocks[0].widen.weight, before + 0.5)
    assert any(name.startswith("teacher.") for name in objective.state_dict())  # so that a resumed run has it


def test_targets_do_not_depend_on_masks_or_padding():
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL).eval(), small_batch()
    objective = Data2Vec(Data2VecSettings(), encoder)
    x = encoder.embed(encoder.features(batch.wav, batch.lengths))
    alone = encoder.embed(encoder.features(batch.wav[1:, :6000], batch.lengths[1:]))
    together = objective.targets(x, batch.counts)
    torch.testing.assert_close(together[1, :18], objective.targets(alone, batch.counts[1:])[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[0].mean(0), torch.zeros(16), atol=1e-4, rtol=0)


def test_the_student_learns_and_only_masked_frames_count():
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL), small_batch()
    objective = Data2Vec(Data2VecSettings(decay=(1.0, 1.0)), encoder)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *objective.project.parameters()], 3e-3)
    losses = []
    for _ in range(30):
        loss = objective(encoder, batch).losses["regression"] / objective.counts(batch)["regression"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-5:]) < 0.85 * losses[0]
    assert objective.counts(batch)["regression"] == 20


@pytest.mark.parametrize("settings", [{"decay": (0.9, 0.5)}, {"top_blocks": 0}, {"decay": (0.9, 1.1)}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="decay is"):
        Data2VecSettings(**settings)


def test_a_teacher_is_a_copy():
    student = torch.nn.Linear(2, 2)
    teacher = Teacher(student)
    with torch.no_grad():
        student.weight.zero_()
    assert teacher.network.weight.abs().sum() > 0
    teacher.follow(student, 0.0)
    assert teacher.network.weight.abs().sum() == 0
