"""The acoustic model fits a toy language and its durations, by flow matching and by regression."""

import pytest
import torch

from ssl_vc.tts.acoustic import AcousticConfig, AcousticModel, Batch
from ssl_vc.tts.duration import repeat_by_duration
from ssl_vc.tts.symbols import SYMBOL_IDS, SYMBOLS, to_symbols

DIM, CUT = 6, 16


def small(flow, speakers=1):
    torch.manual_seed(0)
    shape = {"width": 32, "depth": 2, "decoder_width": 48, "decoder_depth": 2}
    return AcousticModel(AcousticConfig(DIM, speakers, flow=flow, **shape))


def language(rows=24, seed=0, speakers=1):
    """Sentences in a language of six symbols, each with fixed mean and duration."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(6, DIM, generator=torch.Generator().manual_seed(9)) * 1.5
    symbols = torch.randint(0, 6, (rows, 10), generator=generator)
    counts = torch.randint(6, 11, (rows,), generator=generator)
    symbols *= torch.arange(10) < counts[:, None]
    speaker_ids = torch.randint(0, speakers, (rows,), generator=generator)
    lengths = (symbols % 3 + 2 + 3 * speaker_ids[:, None]) * (torch.arange(10) < counts[:, None])
    frames = repeat_by_duration(means[symbols], lengths)
    noise = 0.3 * torch.randn(frames.shape, generator=generator)
    known = (torch.arange(frames.shape[1]) < lengths.sum(1, keepdim=True))[..., None]
    batch = Batch(symbols, torch.zeros_like(symbols), counts, speaker_ids, (frames + noise) * known, lengths.sum(1))
    return batch, means


def trained(model, steps, speakers=1):
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for step in range(steps):
        losses = model(language(seed=step, speakers=speakers)[0], CUT)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()}


@pytest.mark.parametrize("flow", [True, False], ids=["flow", "regression"])
def test_frames_and_durations_are_learned(flow):
    model = small(flow)
    before = {name: float(value.detach()) for name, value in model(language()[0], CUT).items()}
    after = trained(model, 200)
    assert after["mean"] < 0.25 * before["mean"] and after["length"] < 0.5 * before["length"]
    symbols = torch.tensor([0, 5, 2, 1, 4, 3, 0])
    frames, lengths = model.eval().generate(symbols, torch.zeros_like(symbols), temperature=0.0, steps=8)
    assert (lengths - (symbols % 3 + 2)).abs().max() <= 1
    truth = repeat_by_duration(language()[1][symbols][None], lengths[None])[0]
    assert float((frames - truth).square().mean()) < 0.15
    half, fewer = model.generate(symbols, torch.zeros_like(symbols), speed=0.5)
    assert len(half) == int(fewer.sum()) > 1.7 * len(frames)


def test_a_flow_samples_the_variance_of_its_data():
    """At temperature 1 frames vary as much as those of the language; at 0 they are deterministic."""
    model = small(True)
    trained(model, 300)
    symbols = torch.tensor([0, 5, 2, 1, 4, 3, 0])
    generator = torch.Generator().manual_seed(0)
    many = [
        model.generate(symbols, torch.zeros_like(symbols), temperature=1.0, steps=16, generator=generator)[0]
        for _ in range(20)
    ]
    assert 0.2 < float(torch.stack(many).std(0).mean()) < 0.45
    cold = [model.generate(symbols, torch.zeros_like(symbols), temperature=0.0)[0] for _ in range(2)]
    assert torch.equal(*cold)


def test_speakers_differ():
    model = small(False, speakers=2)
    trained(model, 200, speakers=2)
    symbols = torch.tensor([0, 5, 2, 1, 4, 3, 0])
    quick, slow = (model.generate(symbols, torch.zeros_like(symbols), speaker)[1].sum() for speaker in (0, 1))
    assert int(slow) == pytest.approx(int(quick) + 3 * 7, abs=4)


def test_padding_does_not_matter():
    model = small(False)
    batch, _ = language()
    most = batch.frames.shape[1]
    junk = batch.frames + 100 * (torch.arange(most) >= batch.frame_counts[:, None])[..., None]
    for cut in (most // 2, most + 50):
        torch.manual_seed(0)
        clean = model(batch, cut)
        torch.manual_seed(0)
        for name, loss in model(batch._replace(frames=junk), cut).items():
            torch.testing.assert_close(loss, clean[name], msg=name)


def test_rows_are_independent():
    model = small(False).eval()
    batch, _ = language()
    hidden, lengths = model.encode(batch.symbols, batch.word_starts, batch.speakers, batch.symbol_counts)
    for row in range(3):
        count = int(batch.symbol_counts[row])
        alone = model.encode(
            *(part[row : row + 1, :count] for part in batch[:2]), batch.speakers[:1], batch.symbol_counts[row : row + 1]
        )
        torch.testing.assert_close(hidden[row, :count], alone[0][0])
        torch.testing.assert_close(lengths[row, :count], alone[1][0])


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="depth is 0; it must be at least 1"):
        AcousticConfig(4, depth=0)


# ---- symbols


def spelled(words):
    return [["AH"] * len(word) for word in words]


def test_a_sentences_symbols():
    sentence = to_symbols("hi, a cat?", spelled)
    assert [SYMBOLS[number] for number in sentence.symbols] == ["<begin>", "AH", "AH", ",", "AH", "AH", "AH", "AH", "?"]
    assert sentence.word_starts == [0, 1, 0, 0, 1, 1, 0, 0, 0]
    assert sentence.words == [-1, 0, 0, -1, 1, 2, 2, 2, -1]
    assert to_symbols("a", spelled).symbols == [SYMBOL_IDS["<begin>"], SYMBOL_IDS["AH"], SYMBOL_IDS["."]]
    with pytest.raises(ValueError, match="there is no word"):
        to_symbols(", .", spelled)
