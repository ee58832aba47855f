"""CPC and wav2vec: the published loss; what is predicted is later, and of the same clip; a causal encoder is needed."""

import pytest
import torch
import torch.nn.functional as F

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.objectives.cpc import Cpc, CpcSettings, cpc_logits
from pretrain.objectives.future import count_predicting, future_frames
from pretrain.objectives.vq_wav2vec import VqWav2Vec, VqWav2VecSettings
from pretrain.objectives.wav2vec import FIRST, Wav2Vec, Wav2VecSettings

SHAPE = {"dim": 16, "conv_dim": 16, "depth": 2, "heads": 2, "ffn_dim": 32}
CPC = EncoderConfig.cpc(**SHAPE)
WAV2VEC = EncoderConfig.wav2vec(**SHAPE)
VQ = {kind: EncoderConfig.wav2vec(**SHAPE, quantiser=kind, codes=8) for kind in ("gumbel", "kmeans")}
SETTINGS = {"steps": 3, "negatives": 4}


@pytest.fixture
def batch(speech):
    wav = torch.stack([speech(0.5, text=text, pitch=100 + 50 * text) for text in range(2)])
    lengths = torch.tensor([8_000, 6_000])
    nothing = torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    mask = torch.zeros(2, 24, dtype=torch.bool)
    return Batch(wav, lengths, (lengths - 400) // 320 + 1, mask, torch.zeros(0, 2, 24, dtype=torch.long), *nothing)


def methods():
    yield "cpc", CPC, Cpc, CpcSettings(**SETTINGS)
    yield "modified cpc", CPC, Cpc, CpcSettings(**SETTINGS, predictor="transformer", heads=2, ffn_dim=32)
    yield "wav2vec", WAV2VEC, Wav2Vec, Wav2VecSettings(**SETTINGS)
    for kind, config in VQ.items():
        yield f"vq-wav2vec, {kind}", config, VqWav2Vec, VqWav2VecSettings(**SETTINGS)


def make(config, kind, settings):
    torch.manual_seed(0)
    encoder = SpeechEncoder(config)
    return encoder, kind(settings, encoder)


def test_the_loss_is_the_published_one(golden):
    case = golden("cpc_loss")
    steps, number = case.config["K"], case.config["N"]
    context, frames = case.input["c"], case.input["z"]
    rows, size, dim = frames.shape
    shape = EncoderConfig.cpc(**SHAPE | {"dim": context.shape[2], "conv_dim": dim})
    _, objective = make(shape, Cpc, CpcSettings(steps=steps, negatives=number))
    for step, predict in enumerate(objective.predict):
        predict.load_state_dict({"weight": case.weights[f"wPrediction.predictors.{step}.weight"]})
    counts = torch.full((rows,), size)
    position, ahead = future_frames(counts, steps)
    assert len(position) == rows * (size - steps) == count_predicting(counts, steps)
    # drawn for each (clip, negative, frame of the window), from all clips
    drawn = (case.input["seqIdx"].view(rows, number, -1) + torch.arange(size - steps)) % size
    drawn = (drawn + size * case.input["batchIdx"].view(drawn.shape)).transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        predictions = objective.predictions(context, torch.ones(rows, size, dtype=torch.bool), position)
    flat = frames.flatten(0, 1)
    logits = cpc_logits(predictions, flat[ahead], flat[drawn])
    losses = [F.cross_entropy(logits[:, k], torch.zeros(len(logits), dtype=torch.long)) for k in range(steps)]
    torch.testing.assert_close(torch.stack(losses), case.output["losses"][0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torch.stack(losses).mean(), case.output["mean_loss"], atol=1e-5, rtol=1e-4)
    right = logits[..., 0] >= logits[..., 1:].amax(-1) - 1e-6  # a negative may be the true frame itself
    torch.testing.assert_close(right.float().mean(0), case.output["acc"][0])


def test_later_frames_are_of_the_same_clip():
    counts = torch.tensor([5, 2, 4])
    position, ahead = future_frames(counts, 2, first=2)
    assert position.tolist() == [0, 1, 7]
    assert ahead.tolist() == [[2, 3], [3, 4], [9, 10]]
    assert count_predicting(counts, 2, first=2) == 3
    assert future_frames(torch.tensor([2]), 2).ahead.shape == (0, 2)


@pytest.mark.parametrize(("config", "kind", "settings"), [m[1:] for m in methods()], ids=[m[0] for m in methods()])
def test_every_weight_learns_and_losses_fall(config, kind, settings, batch):
    encoder, objective = make(config, kind, settings)
    weights = [*encoder.parameters(), *objective.parameters()]
    optimizer, losses = torch.optim.AdamW(weights, 1e-2), []
    counts = objective.counts(batch)
    for step in range(1 if config.quantiser != "none" else 8):
        torch.manual_seed(1)  # the same negatives
        found = objective(encoder, batch).losses
        loss = sum(objective.weights[name] * value / counts[name] for name, value in found.items())
        optimizer.zero_grad()
        loss.backward()
        if not step:
            named = [*encoder.named_parameters(), *objective.named_parameters()]
            assert [name for name, parameter in named if parameter.grad is None] == ["mask_embedding"]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.97 * losses[0] or len(losses) == 1  # codes that change at once take longer
    metrics = objective.metrics(objective(encoder, batch).stats)
    assert 0 <= metrics["accuracy"] <= 1


@pytest.mark.parametrize(("config", "kind", "settings"), [m[1:] for m in methods()], ids=[m[0] for m in methods()])
def test_losses_are_sums_over_clips(config, kind, settings, batch, monkeypatch):
    """But for the Gumbel quantiser's, which is of a batch."""
    encoder, objective = make(config, kind, settings)
    encoder.eval(), objective.eval()

    def next_frames(counts, number):  # instead of random ones
        start = (counts.cumsum(0) - counts).repeat_interleave(counts)[:, None]
        place = torch.arange(len(start))[:, None] - start
        return start + (place + 1 + torch.arange(number)) % counts.repeat_interleave(counts)[:, None]

    monkeypatch.setattr(f"{kind.__module__.replace('vq_', '')}.sample_negatives", next_frames)
    with torch.no_grad():
        together = objective(encoder, batch).losses["contrastive"]
        parts = []
        for row, length in enumerate(batch.lengths.tolist()):
            fields = {name: getattr(batch, name)[row : row + 1] for name in ("lengths", "counts", "tokens")}
            rest = {"labels": batch.labels[:, :1], "token_counts": batch.token_counts[:1]}
            one = Batch(wav=batch.wav[row : row + 1, :length], mask=batch.mask[:1], **fields, **rest)
            parts.append(objective(encoder, one).losses["contrastive"])
    torch.testing.assert_close(sum(parts), together, rtol=1e-4, atol=1e-4)


def test_scores_of_wav2vec_are_those_of_the_paper(batch):
    """Of one frame and step, written out."""
    _, objective = make(WAV2VEC, Wav2Vec, Wav2VecSettings(**SETTINGS))
    context, frames = torch.randn(20, 16), torch.randn(20, 16)
    position, ahead = future_frames(torch.tensor([20]), 3, FIRST)
    assert FIRST == 2 and ahead[0].tolist() == [2, 3, 4]
    negatives = torch.randint(20, (len(position), 3, 4))
    with torch.no_grad():
        true, false = objective.scores(context[position], frames, ahead, negatives)
        weight, bias = (of.chunk(3)[1] for of in (objective.predict.weight, objective.predict.bias))
        predicted = weight @ context[5] + bias
        torch.testing.assert_close(true[5, 1], predicted @ frames[5 + 3])
        torch.testing.assert_close(false[5, 1, 2], predicted @ frames[negatives[5, 1, 2]])


@pytest.mark.parametrize("kind", VQ)
def test_the_exported_encoder_sees_codes_only(kind, batch):
    encoder, _ = make(VQ[kind], VqWav2Vec, VqWav2VecSettings(**SETTINGS))
    encoder.eval()
    with torch.inference_mode():
        latents = encoder.feature_norm(encoder.features(batch.wav))
        codes = encoder.quantiser.codes(latents)
        assert codes.shape == (2, 24, 2) and int(codes.max()) < 8
        quantised = encoder.quantiser(latents.flatten(0, 1), 1.0)
        assert torch.equal(quantised.codes, codes.flatten(0, 1))
        vectors = encoder.quantiser.vectors(codes)
        torch.testing.assert_close(quantised.vectors, vectors.flatten(0, 1))
        torch.testing.assert_close(encoder.embed(encoder.features(batch.wav)), encoder.project(vectors))


def test_a_k_means_quantiser_is_the_nearest_code_and_its_losses_are_the_published_ones():
    torch.manual_seed(0)
    quantiser = SpeechEncoder(VQ["kmeans"]).quantiser
    frames = torch.randn(30, 16, requires_grad=True)
    with torch.no_grad():
        quantiser.codebooks.normal_()
    found = quantiser(frames)
    latents = F.layer_norm(quantiser.project(frames[:, :, None])[:, :, 0].unflatten(1, (2, 8)), (8,))
    nearest = torch.stack([torch.cdist(latents[:, g], quantiser.codebooks[g]).argmin(1) for g in (0, 1)], 1)
    assert torch.equal(found.codes, nearest)
    difference = F.mse_loss(found.vectors, latents.flatten(1), reduction="none").mean(1).sum()
    torch.testing.assert_close(found.loss, 1.25 * difference)
    (straight,) = torch.autograd.grad(found.vectors.sum() + 0 * found.loss, frames, retain_graph=True)
    (through,) = torch.autograd.grad(latents.sum(), frames, retain_graph=True)
    torch.testing.assert_close(straight, through)
    assert torch.autograd.grad(found.loss, quantiser.codebooks)[0].abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (lambda: CpcSettings(steps=0), "steps is 0"),
        (lambda: CpcSettings(predictor="lstm"), "possible are linear, transformer"),
        (lambda: Wav2VecSettings(negatives=0), "negatives 0"),
        (lambda: make(EncoderConfig.tiny(), Cpc, CpcSettings()), "has causal false, and this objective needs true"),
        (lambda: make(WAV2VEC, VqWav2Vec, VqWav2VecSettings()), "has quantiser none, and .* needs gumbel or kmeans"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        settings()
