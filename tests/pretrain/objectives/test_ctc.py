import itertools

import pytest
import torch

from pretrain.objectives.ctc import CtcHead, count_errors, count_tokens, edit_distance


def joined(symbols):
    return [symbol for symbol, _ in itertools.groupby(symbols) if symbol]


def brute_force(scores, tokens):
    """Sum over every way to spread the tokens over the frames (time, symbols)."""
    paths = itertools.product(range(scores.shape[1]), repeat=len(scores))
    ways = [sum(scores[t, symbol] for t, symbol in enumerate(path)) for path in paths if joined(path) == tokens]
    return -torch.stack(ways).logsumexp(0)


@pytest.fixture
def ctc():
    torch.manual_seed(0)
    return CtcHead(5, 4).eval()


def batch(*clips, most=None):
    """Pad clips, (frames, tokens) each, to a batch; the padding is not 0, so that it is noticed if it counts."""
    torch.manual_seed(1)
    frames = torch.full((len(clips), max(count for count, _ in clips) + 1, 5), 7.0)
    for row, (count, _) in zip(frames, clips, strict=True):
        row[:count] = torch.randn(count, 5)
    tokens = torch.zeros(len(clips), most or max(len(reference) for _, reference in clips), dtype=torch.long)
    for row, (_, reference) in zip(tokens, clips, strict=True):
        row[: len(reference)] = torch.tensor(reference, dtype=torch.long)
    counts = torch.tensor([count for count, _ in clips])
    return frames, counts, tokens, torch.tensor([len(reference) for _, reference in clips])


def test_the_loss_is_the_sum_over_all_alignments_without_padding(ctc):
    clips = [(4, [1, 2]), (4, [3, 3]), (2, [2])]
    frames, counts, tokens, token_counts = batch(*clips, most=4)
    expected = sum(brute_force(ctc.scores(frames)[i, :count], reference) for i, (count, reference) in enumerate(clips))
    torch.testing.assert_close(ctc(frames, counts, tokens, token_counts), expected)
    assert count_tokens(counts, tokens, token_counts) == 5


# no tokens; more tokens than frames; frames enough for the tokens but not for the blank between equal ones
IMPOSSIBLE = [(5, []), (1, [1, 2]), (2, [3, 3])]


@pytest.mark.parametrize("clip", IMPOSSIBLE)
def test_infeasible_clips_contribute_nothing_and_do_not_affect_the_rest(ctc, clip):
    alone = batch((5, [1, 2]))
    frames, counts, tokens, token_counts = batch((5, [1, 2]), clip)
    frames.requires_grad_()
    loss = ctc(frames, counts, tokens, token_counts)
    torch.testing.assert_close(loss, ctc(*alone))
    loss.backward()
    assert frames.grad.isfinite().all() and frames.grad[0].any() and not frames.grad[1].any()
    assert count_tokens(counts, tokens, token_counts) == count_tokens(*alone[1:]) == 2


def test_a_batch_of_nothing_gives_0_and_gradients_of_0(ctc):
    for clips in (IMPOSSIBLE, [(5, []), (3, [])]):
        frames, *rest = batch(*clips)
        ctc.zero_grad()
        loss = ctc(frames, *rest)
        loss.backward()
        assert loss == 0 and count_tokens(*rest) == 0
        assert all(weight.grad is not None and not weight.grad.any() for weight in ctc.parameters())


def test_the_fewest_frames_suffice(ctc):
    frames, *rest = batch((2, [1, 2]), (3, [3, 3]))
    scores = ctc.scores(frames)
    expected = -(scores[0, 0, 1] + scores[0, 1, 2] + scores[1, 0, 3] + scores[1, 1, 0] + scores[1, 2, 3])
    torch.testing.assert_close(ctc(frames, *rest), expected)
    assert count_tokens(*rest) == 4


def test_ctc_learns_the_tokens():
    torch.manual_seed(0)
    ctc = CtcHead(5, 4)
    clips = [(12, [1, 2, 3]), (9, [3, 3]), (10, [2, 1])]
    frames, *rest = batch(*clips)
    frames = frames.requires_grad_()  # an encoder that can do anything
    optimizer = torch.optim.Adam([frames, *ctc.parameters()], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        ctc(frames, *rest).backward()
        optimizer.step()
    assert ctc.decode(frames, rest[0]) == [reference for _, reference in clips]
    assert count_errors(ctc.decode(frames, rest[0]), [reference for _, reference in clips]) == (0, 7)


def test_decoding_joins_repeats_and_drops_blanks_and_padding():
    ctc = CtcHead(4, 4, dropout=0.9)  # in training mode, but decoding drops nothing
    with torch.no_grad():
        ctc.linear.weight.copy_(torch.eye(4))
        ctc.linear.bias.zero_()
    best = torch.tensor([[0, 1, 1, 0, 1, 2, 2, 3], [3, 3, 0, 0, 2, 2, 1, 1]])
    frames = torch.nn.functional.one_hot(best, 4).float()
    assert ctc.decode(frames, torch.tensor([8, 5])) == [[1, 1, 2, 3], [3, 2]]


@pytest.mark.parametrize(
    ("hypothesis", "reference", "expected"),
    [([], [], 0), ([1, 2], [], 2), ([], [1, 2, 3], 3), ([1, 3, 4], [1, 2, 3], 2), ([1, 5, 3], [1, 2, 3], 1)],
)
def test_edit_distance(hypothesis, reference, expected):
    assert edit_distance(hypothesis, reference) == edit_distance(reference, hypothesis) == expected


def test_errors_are_summed_over_clips():
    assert count_errors([[1, 2], [3]], [[1, 2, 3], [4]]) == (2, 4)


def test_half_precision_is_summed_in_full(ctc):
    frames, *rest = batch((5, [1, 2]), (4, [3]))
    with torch.autocast("cpu", torch.bfloat16):
        loss = ctc(frames, *rest)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ctc(frames, *rest), rtol=0.02, atol=0)
    assert ctc.bfloat16()(frames.bfloat16(), *rest).dtype == torch.float32
