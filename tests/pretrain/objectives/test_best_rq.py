"""BEST-RQ: the published labels and loss; what is masked cannot be seen; labels ignore level and padding."""

import pytest
import torch
import torch.nn.functional as F

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.encoder.frontend import log_mel_spectrogram
from pretrain.encoder.quantisers import RandomProjectionQuantiser
from pretrain.objectives.best_rq import LABEL_BANDS, BestRq, BestRqSettings

SHAPE = {"dim": 16, "conv_dim": 16, "depth": 2, "heads": 2, "ffn_dim": 32, "pos_kernel": 8, "pos_groups": 2}
SMALL = EncoderConfig.tiny(**SHAPE, dropout=0.0)


def batch_of(wav, lengths, mask):
    counts = (lengths - 400) // 320 + 1
    nothing = torch.zeros(len(wav), 0, dtype=torch.long), torch.zeros(len(wav), dtype=torch.long)
    return Batch(wav, lengths, counts, mask, torch.zeros(0, *mask.shape, dtype=torch.long), *nothing)


def labels_of(objective, batch):
    return objective.labels(log_mel_spectrogram(batch.wav, LABEL_BANDS), batch)


@pytest.fixture
def batch(speech):
    wav = torch.stack([speech(1.0, text=text, pitch=100 + 50 * text) for text in range(2)])
    mask = torch.zeros(2, 49, dtype=torch.bool)
    mask[0, 10:20] = mask[1, 5:12] = True
    return batch_of(wav, torch.tensor([16_000, 12_000]), mask)


def test_labels_and_loss_are_the_published_ones(golden):
    case = golden("bestrq_labels")
    config, books = case.config, case.config["num_books"]
    quantiser = RandomProjectionQuantiser(
        config["feat_in"] * config["combine"], codes=config["num_classes"], books=books, code_dim=config["code_dim"]
    )
    quantiser.projection.copy_(case.weights["proj.weight"].view_as(quantiser.projection))
    quantiser.codebooks.copy_(case.weights["codebooks"])
    stacked = case.input["features"].unflatten(1, (-1, config["combine"])).flatten(2)
    labels = quantiser(stacked)
    assert torch.equal(labels, case.output["xid_cosine"].long()) and torch.equal(labels, case.output["xid_l2"].long())
    masked = case.input["masks"].mean(1).unflatten(1, (-1, config["combine"])).mean(2) > 0.8
    loss = F.nll_loss(case.input["log_probs"][masked], labels[masked])
    torch.testing.assert_close(loss, case.output["mlm_loss"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", [SMALL, EncoderConfig.hubert_base(**SHAPE, dropout=0.0, attention_dropout=0.0)])
def test_nothing_of_a_masked_span_reaches_its_prediction(config, batch):
    torch.manual_seed(0)
    encoder, objective = (
        SpeechEncoder(config).eval(),
        BestRq(BestRqSettings(codes=32, books=2), SpeechEncoder(config)).eval(),
    )

    def logits(batch):
        torch.manual_seed(1)  # the same noise
        with torch.no_grad():
            return objective(encoder, batch).layers[-1][batch.mask]

    changed = batch.wav.clone()
    changed[0, 320 * 11 + 400 : 320 * 19] = torch.randn(320 * 8 - 400)  # within frames 12 .. 18
    hidden = batch_of(changed, batch.lengths, batch.mask)
    shown = batch_of(changed, batch.lengths, batch.mask.roll(20, 1))
    if config is SMALL:
        torch.testing.assert_close(logits(batch), logits(hidden), atol=1e-5, rtol=1e-5)
    else:  # GroupNorm sees the whole clip, and convolutions the neighbouring frames
        assert (logits(batch) - logits(hidden)).abs().max() < (logits(shown) - logits(hidden)).abs().max()
    assert not torch.equal(labels_of(objective, batch)[0, 13:17], labels_of(objective, hidden)[0, 13:17])


def test_labels_ignore_level_and_padding(batch):
    torch.manual_seed(0)
    objective = BestRq(BestRqSettings(codes=64), SpeechEncoder(SMALL))
    noisy = batch.wav + 0.01 * torch.randn(batch.wav.shape)  # no band is below the floor
    batch = batch_of(noisy, batch.lengths, batch.mask)
    labels = labels_of(objective, batch)
    assert labels.shape == (2, 49, 1) and labels.unique().numel() > 8
    louder = batch_of(batch.wav * 4, batch.lengths, batch.mask)
    assert (labels_of(objective, louder) == labels).double().mean() > 0.99
    alone = batch_of(batch.wav[1:, :12_000], batch.lengths[1:], batch.mask[1:, :37])
    assert torch.equal(labels_of(objective, alone)[0], labels[1, :37])


def test_the_quantiser_is_not_trained_and_the_heads_are(batch):
    torch.manual_seed(0)
    encoder, objective = SpeechEncoder(SMALL), BestRq(BestRqSettings(codes=32, books=2), SpeechEncoder(SMALL))
    assert {name for name, _ in objective.named_parameters()} == {"predict.weight", "predict.bias"}
    assert {"quantiser.projection", "quantiser.codebooks"} <= objective.state_dict().keys()  # so a resumed run has them
    objective(encoder, batch).losses["masked"].backward()
    assert objective.predict.weight.grad.abs().sum() > 0
    assert encoder.frontend.smooth.weight.grad.abs().sum() > 0
    output = objective.eval()(encoder, batch)
    assert 0 <= objective.metrics(output.stats)["accuracy"] <= 1
    assert 1 < objective.metrics(output.stats)["label_perplexity"] <= 32
