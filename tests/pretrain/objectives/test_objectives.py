"""HuBERT and WavLM: what they guess, and the published numbers of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.encoder import foreign, names
from pretrain.objectives.hubert import Hubert, HubertSettings, cosine_logits, perplexity
from pretrain.objectives.wavlm import WavlmSettings

SMALL = EncoderConfig.tiny(dim=16, conv_dim=16, depth=2, heads=2, ffn_dim=32, pos_kernel=8, pos_groups=2, dropout=0.0)


def batch_of(wav, lengths, mask, labels):
    counts = (lengths - 400) // 320 + 1
    nothing = torch.zeros(len(wav), 0, dtype=torch.long), torch.zeros(len(wav), dtype=torch.long)
    return Batch(wav, lengths, counts, mask, labels, *nothing)


def small_batch(rows=3, sets=1):
    generator = torch.Generator().manual_seed(0)
    wav, lengths = torch.randn(rows, 8000, generator=generator), torch.tensor([8000, 6000, 4000][:rows])
    counts = (lengths - 400) // 320 + 1
    frames = int(counts.max())
    real = torch.arange(frames) < counts[:, None]
    mask = (torch.rand(rows, frames, generator=generator) < 0.5) & real
    labels = torch.randint(7, (sets, rows, frames), generator=generator).masked_fill(~real, -1)
    return batch_of(wav, lengths, mask, labels)


def test_loss_is_the_published_one(golden):
    case = golden("hubert_loss")
    frames, clusters, wanted = (case.input[name] for name in ("proj_x", "label_embs", "target"))
    logits = cosine_logits(frames, clusters, case.config["temp"])
    torch.testing.assert_close(logits, case.output["cos"], atol=1e-4, rtol=1e-5)
    loss = nn.functional.cross_entropy(logits, wanted, reduction="sum")
    torch.testing.assert_close(loss, case.output["loss_sum"], rtol=1e-5, atol=0)


def test_whole_forward_is_the_published_one(golden):
    case = golden("hubert_pretrain_forward")
    model = case.config["model"]
    config, weights = foreign.convert(names.from_fairseq(case.weights), {"heads": model["encoder_attention_heads"]})
    encoder = SpeechEncoder(config)
    encoder.load_state_dict(weights)
    settings = HubertSettings(head_dim=model["final_dim"], mask_probability=model["mask_prob"])
    objective = Hubert(settings, encoder, model["classes"]).eval()
    projections = zip(
        objective.project,
        case.weights["final_proj.weight"].chunk(2),
        case.weights["final_proj.bias"].chunk(2),
        case.weights["label_embs_concat"].split(model["classes"]),
        objective.clusters,
        strict=True,
    )
    with torch.no_grad():
        for project, weight, bias, vectors, clusters in projections:
            project.weight.copy_(weight)
            project.bias.copy_(bias)
            clusters.copy_(vectors)
    # there GroupNorm hears the padding, and the shorter row has one frame more than its samples fill
    wav, counts = case.input["source"], (~case.output["frame_padding"]).sum(1)
    labels = torch.stack([case.input["target0"], case.input["target1"]])
    mask = case.input["mask_indices"] & ~case.output["frame_padding"]
    batch = replace(batch_of(wav, torch.tensor([wav.shape[1]] * 2), mask, labels), counts=counts)
    with torch.no_grad():
        losses, stats, _ = objective(encoder.eval(), batch)
    assert objective.counts(batch)["masked"] == int(case.output["sample_size"])
    torch.testing.assert_close(losses["masked"], case.output["loss_m0"] + case.output["loss_m1"], rtol=1e-5, atol=0)
    right = [int(stats[f"masked {of}"][0]) for of in (0, 1)]
    assert right == [int(case.output[f"correct_m{of}"]) for of in (0, 1)]


def test_only_masked_frames_count():
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL).eval(), small_batch()
    objective = Hubert(HubertSettings(), SpeechEncoder(SMALL), [7])
    loss = objective(encoder, batch).losses["masked"]
    seen = batch.labels.clone()
    seen[:, ~batch.mask] = (seen[:, ~batch.mask] + 1) % 7
    assert objective(encoder, replace(batch, labels=seen)).losses["masked"].item() == loss.item()
    hidden = batch.labels.clone()
    hidden[:, batch.mask] = (hidden[:, batch.mask] + 1) % 7
    assert objective(encoder, replace(batch, labels=hidden)).losses["masked"].item() != loss.item()


def test_unlabelled_frames_do_not_count():
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL).eval(), small_batch(sets=2)
    objective = Hubert(HubertSettings(seen_weight=1.0), SpeechEncoder(SMALL), [7, 7]).eval()
    unknown = torch.rand(batch.mask.shape) < 0.5
    labels = batch.labels.clone()
    labels[1, unknown] = -1
    part = objective(encoder, replace(batch, labels=labels))
    alone = [Hubert(HubertSettings(), SpeechEncoder(SMALL), [7]).eval() for _ in range(2)]
    for one, project, clusters in zip(alone, objective.project, objective.clusters, strict=True):
        one.project[0], one.clusters[0] = project, clusters
    frames = part.layers[-1]
    wanted = [
        one._predict(frames, where, labels[of : of + 1], "masked")[0]
        for of, (one, where) in enumerate(zip(alone, (batch.mask, batch.mask & ~unknown), strict=True))
    ]
    torch.testing.assert_close(part.losses["masked"], sum(wanted))
    assert part.stats["masked 1"][1] == (batch.mask & ~unknown).sum() < part.stats["masked 0"][1]
    labels[:] = -1
    assert objective(encoder, replace(batch, labels=labels)).losses["masked"].item() == 0


def test_unmasked_frames_count_with_seen_weight():
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL).eval(), small_batch()
    objective = Hubert(HubertSettings(seen_weight=0.5), SpeechEncoder(SMALL), [7]).train()
    losses, counts = objective(encoder, batch).losses, objective.counts(batch)
    assert objective.weights["seen"] == 0.5
    assert counts["seen"] + counts["masked"] == counts["features"] == int(batch.counts.sum())
    swapped = replace(batch, mask=~batch.mask & (batch.labels[0] >= 0))
    with torch.no_grad():
        frames = objective(encoder, batch).layers[-1]
        wanted = objective._predict(frames, swapped.mask, batch.labels, "seen")[0]
    assert losses["seen"].item() == pytest.approx(wanted.item())
    assert Hubert(HubertSettings(), SpeechEncoder(SMALL), [7]).train()(encoder, batch).losses["seen"].item() == 0


def test_masked_frames_do_not_leak():
    """Nothing of the clip but its unmasked frames reaches the guess: with every frame hidden, all clips sound alike."""
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL).eval(), small_batch(1)
    objective = Hubert(HubertSettings(), SpeechEncoder(SMALL), [7])
    hidden = replace(batch, mask=torch.ones_like(batch.mask))
    one = objective(encoder, hidden).losses["masked"]
    other = objective(encoder, replace(hidden, wav=torch.randn_like(batch.wav))).losses["masked"]
    assert one.item() == other.item()


def test_losses_are_sums_that_do_not_depend_on_how_a_batch_is_divided():
    torch.manual_seed(0)
    encoder, batch = SpeechEncoder(SMALL).eval(), small_batch(sets=2)
    objective = Hubert(HubertSettings(), SpeechEncoder(SMALL), [7, 9])
    whole, counts = objective(encoder, batch).losses, objective.counts(batch)
    parts, part_counts = dict.fromkeys(whole, 0.0), dict.fromkeys(counts, 0)
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in vars(batch).items() if name not in ("labels", "extra")}
        part = Batch(**one, labels=batch.labels[:, row : row + 1])
        for name, value in objective(encoder, part).losses.items():
            parts[name] += value.item()
        for name, value in objective.counts(part).items():
            part_counts[name] += value
    assert part_counts == counts
    assert counts["masked"] == int(batch.mask.sum())
    for name, value in whole.items():
        assert parts[name] == pytest.approx(value.item(), rel=1e-5)


def test_feature_gradients_are_scaled():
    def gradient(scale):
        torch.manual_seed(0)
        encoder = SpeechEncoder(SMALL)
        objective = Hubert(HubertSettings(feature_grad=scale), SpeechEncoder(SMALL), [7])
        objective(encoder, small_batch()).losses["masked"].backward()
        return encoder.frontend.halve.weight.grad, encoder.project.weight.grad

    (whole, same), (tenth, also) = gradient(1.0), gradient(0.1)
    torch.testing.assert_close(tenth, 0.1 * whole)
    torch.testing.assert_close(same, also)


def test_figures():
    objective = Hubert(HubertSettings(), SpeechEncoder(SMALL), [4])
    stats = {
        "masked 0": torch.tensor([3, 4]),
        "targets 0": torch.tensor([5, 5, 5, 5]),
        "predicted 0": torch.tensor([10, 10, 0, 0]),
    }
    metrics = objective.metrics(stats)
    assert metrics["accuracy"] == 0.75
    assert metrics["label_perplexity"] == pytest.approx(4)
    assert metrics["guess_perplexity"] == pytest.approx(2)
    assert metrics["dead"] == 2
    assert perplexity(torch.tensor([0, 0, 9])) == pytest.approx(1)


def test_wavlm_mixes_in_learning_only(speech):
    wavs = [speech(1.0, text=text, pitch=90 + 40 * text).numpy() for text in range(6)]
    settings = WavlmSettings(mix_probability=1.0)

    def prepared(training, kind=settings):
        generators = [np.random.default_rng((0, 0, row)) for row in range(6)]
        return kind.prepare(wavs, [49] * 6, generators, training)

    heard, masks, _ = prepared(True)
    assert sum(not np.array_equal(a, b) for a, b in zip(heard, wavs, strict=True)) >= 4
    still, same, _ = prepared(False)
    assert all(np.array_equal(a, b) for a, b in zip(still, wavs, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(masks, same, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(prepared(True, HubertSettings())[0], wavs, strict=True))


@pytest.mark.parametrize("wrong", [{"mask_probability": 1.5}, {"mask_length": 0}, {"temperature": 0.0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HubertSettings(**wrong)
