"""wav2vec 2.0: the published quantiser, logits and loss, and truths about negatives."""

import pytest
import torch
from torch import nn

from pretrain import SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.encoder import foreign, names
from pretrain.encoder.quantisers import GumbelQuantiser, code_counts, code_perplexity, temperature_at
from pretrain.objectives import wav2vec2
from pretrain.objectives.contrast import contrastive_logits, sample_negatives
from pretrain.objectives.wav2vec2 import Wav2Vec2, Wav2Vec2Settings


def load_quantiser(quantiser, weights, prefix=""):
    with torch.no_grad():
        quantiser.codebooks.copy_(weights[f"{prefix}vars"].view_as(quantiser.codebooks))
        quantiser.score[0].weight.copy_(weights[f"{prefix}weight_proj.weight"])
        quantiser.score[0].bias.copy_(weights[f"{prefix}weight_proj.bias"])


def test_the_quantiser_is_the_published_one(golden):
    case = golden("gumbel_quantizer_eval")
    config, frames = case.config, case.input["x"].flatten(0, 1)
    quantiser = GumbelQuantiser(
        config["dim"], codes=config["num_vars"], groups=config["groups"], out=config["vq_dim"], depth=config["depth"]
    ).eval()
    load_quantiser(quantiser, case.weights)
    with torch.no_grad():
        quantised = quantiser(frames, 1.0)
    torch.testing.assert_close(quantised.vectors, case.output["x"].flatten(0, 1), atol=1e-5, rtol=1e-5)
    assert torch.equal(quantised.codes, case.output["targets"].flatten(0, 1))
    hard = code_counts(quantised) / len(frames)
    torch.testing.assert_close(code_perplexity(hard), case.output["code_perplexity"])
    torch.testing.assert_close(code_perplexity(quantised.probabilities.mean(0)), case.output["prob_perplexity"])
    first, last, decay = config["temp"]
    found = [temperature_at(step / 400_000, first, last, decay, 400_000) for step in (0, 1000, 100_000, 1_000_000)]
    assert found == pytest.approx(case.output["temp_at"].tolist())


def test_logits_are_the_published_ones(golden):
    case = golden("wav2vec2_contrastive")
    negatives, x, y = (case.input[name] for name in ("negatives", "x", "y"))
    number, _, _, dim = negatives.shape
    logits = contrastive_logits(
        x.reshape(-1, dim), y.reshape(-1, dim), negatives.reshape(number, -1, dim).transpose(0, 1), case.config["temp"]
    )
    wanted = case.output["preds"].permute(1, 2, 0).reshape(-1, number + 1)
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-5)
    loss = nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="sum")
    torch.testing.assert_close(loss, case.output["infonce_sum"], rtol=1e-5, atol=0)


def test_whole_forward_is_the_published_one(golden, monkeypatch):
    case = golden("wav2vec2_pretrain_forward")
    model = case.config["model"]
    config, weights = foreign.convert(names.from_fairseq(case.weights), {"heads": model["encoder_attention_heads"]})
    encoder = SpeechEncoder(config).eval()
    encoder.load_state_dict(weights)
    settings = Wav2Vec2Settings(
        target_dim=model["final_dim"],
        negatives=model["num_negatives"],
        temperature=model["logit_temp"],
        codes=model["latent_vars"],
        groups=model["latent_groups"],
        feature_weight=case.config["loss_weights"][1],
        diversity_weight=case.config["loss_weights"][0],
    )
    objective = Wav2Vec2(settings, encoder).eval()
    load_quantiser(objective.quantiser, case.weights, "quantizer.")
    for ours, theirs in (("project", "final_proj"), ("project_target", "project_q")):
        getattr(objective, ours).load_state_dict(
            {name: case.weights[f"{theirs}.{name}"] for name in ("weight", "bias")}
        )
    mask, wav = case.input["mask_indices"], case.input["source"]
    counts = (~case.output["frame_padding"]).sum(1)
    drawn = case.input["neg_idxs"].view(len(wav), -1, settings.negatives).flatten(0, 1)
    monkeypatch.setattr(wav2vec2, "sample_negatives", lambda counts, number: drawn)
    seen = []
    monkeypatch.setattr(
        wav2vec2, "contrastive_logits", lambda *given: seen.append(contrastive_logits(*given)) or seen[0]
    )
    nothing = torch.zeros(len(wav), 0, dtype=torch.long), torch.zeros(len(wav), dtype=torch.long)
    lengths = torch.tensor([wav.shape[1]] * len(wav))  # there GroupNorm reads the padding
    batch = Batch(wav, lengths, counts, mask, torch.zeros(0, *mask.shape, dtype=torch.long), *nothing)
    with torch.no_grad():
        losses, stats, _ = objective(encoder, batch)
    wanted = case.output["preds"].permute(1, 2, 0).reshape(-1, settings.negatives + 1)
    torch.testing.assert_close(seen[0], wanted, atol=1e-4, rtol=1e-4)
    assert objective.counts(batch)["contrastive"] == int(case.output["sample_size"])
    metrics = objective.metrics(stats)
    assert metrics["code_perplexity"] == pytest.approx(float(case.output["code_perplexity"]), rel=1e-5)
    # their penalty is a mean over all frames, padding included, times the masked frames
    features = encoder.features(wav, lengths)
    torch.testing.assert_close(features.square().mean(), case.output["features_pen"])
    total = losses["contrastive"] + settings.diversity_weight * losses["diversity"]
    total = total + settings.feature_weight * case.output["features_pen"] * int(mask.sum())
    torch.testing.assert_close(total, case.output["loss"], rtol=1e-4, atol=0)


def test_negatives_are_other_frames_of_the_same_clip():
    counts = torch.tensor([5, 1, 2, 9])
    clip = torch.arange(4).repeat_interleave(counts)
    torch.manual_seed(0)
    drawn = sample_negatives(counts, 200)
    assert drawn.shape == (17, 200)
    assert (clip[drawn] == clip[:, None]).all()
    for frame, row in enumerate(drawn.tolist()):
        others = set(torch.arange(17)[clip == clip[frame]].tolist()) - {frame}
        assert set(row) == (others or {frame})


def test_codes_are_chosen_at_random_in_training_only_and_learn():
    torch.manual_seed(0)
    quantiser, frames = GumbelQuantiser(8, codes=6, groups=2, out=4, depth=2), torch.randn(50, 8)
    one, two = (quantiser(frames, 2.0).vectors for _ in range(2))
    assert not torch.equal(one, two)
    one.square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in quantiser.parameters())
    quantiser.eval()
    one, two = (quantiser(frames, 2.0) for _ in range(2))
    assert torch.equal(one.vectors, two.vectors)
    groups = torch.stack([quantiser.codebooks[group][one.codes[:, group]] for group in (0, 1)], 1)
    assert torch.equal(one.vectors, groups.flatten(1))
    with pytest.raises(ValueError, match="cannot be divided among 3 codebooks"):
        GumbelQuantiser(8, groups=3, out=4)


def test_unused_codes_cost_and_evenly_used_ones_do_not():
    even, one = torch.full((2, 10), 0.1), torch.eye(10)[:2]
    assert float(1 - code_perplexity(even) / 20) == pytest.approx(0, abs=1e-5)
    assert float(1 - code_perplexity(one) / 20) == pytest.approx(0.9, abs=1e-4)
