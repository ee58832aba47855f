"""Frame contrast: what is positive, negative and neither, and that it learns to find the partner."""

import math

import pytest
import torch

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.objectives.frame_contrast import FrameContrast, FrameContrastSettings

SMALL = EncoderConfig.tiny(dim=16, conv_dim=16, depth=2, heads=2, ffn_dim=32, pos_kernel=8, pos_groups=2, dropout=0.0)


def objective(**settings):
    torch.manual_seed(0)
    return FrameContrast(FrameContrastSettings(**{"clip_mean": False, **settings}), SpeechEncoder(SMALL))


def batch_of(partners, counts, labels=None):
    """A batch of which only the counts, the labels and the partners matter."""
    rows, frames = partners.shape
    labels = torch.zeros(0, rows, frames, dtype=torch.long) if labels is None else labels[None]
    nothing = torch.zeros(rows, 0, dtype=torch.long), torch.zeros(rows, dtype=torch.long)
    mask = torch.zeros(rows, frames, dtype=torch.bool)
    counts = torch.tensor(counts)
    return Batch(torch.zeros(rows, 9999), 320 * counts + 80, counts, mask, labels, *nothing, {"partners": partners})


def published(queries, keys, positives, allowed, temperature):
    """InfoNCE, written out."""
    total = 0.0
    for number, query in enumerate(queries):
        scores = [math.exp(float(query @ key) / temperature) for key in keys]
        total -= math.log(scores[positives[number]] / sum(scores[key] for key in allowed[number]))
    return total


def test_the_loss_is_infonce_both_ways():
    frames = torch.nn.functional.normalize(torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1)), dim=-1)
    identity = torch.arange(5).repeat(2, 1)
    loss, found = objective(neighbours=1)._contrast(frames, batch_of(identity, [5, 5]))
    allowed = [[key for key in range(5) if key == query or abs(key - query) > 1] for query in range(5)]
    wanted = published(frames[0], frames[1], range(5), allowed, 0.1)
    wanted += published(frames[1], frames[0], range(5), allowed, 0.1)
    assert float(loss) == pytest.approx(wanted, rel=1e-5)
    assert int(found[1]) == 10


def test_padding_is_no_negative_and_frames_without_a_partner_are_no_queries():
    frames = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(2))
    partners = torch.full((4, 6), -1)
    partners[0, :3], partners[2, 1:4] = torch.tensor([1, 2, 3]), torch.tensor([0, 1, 2])
    batch, contrast = batch_of(partners, [4, 6, 5, 2]), objective()
    loss, found = contrast._contrast(frames, batch)
    assert contrast.counts(batch)["contrast"] == int(found[1]) == 6
    for row, padding in ((0, 4), (2, 5), (3, 2)):
        frames[row, padding:] += 9
    assert float(contrast._contrast(frames, batch)[0]) == pytest.approx(float(loss), rel=1e-6)
    frames[3, 1] += 9  # a frame of a clip without partners is a negative all the same
    assert float(contrast._contrast(frames, batch)[0]) != pytest.approx(float(loss), rel=1e-3)


def test_frames_of_the_same_label_need_not_be_negatives():
    frames, partners = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(3)), torch.arange(8).repeat(2, 1)
    same = batch_of(partners, [8, 8], torch.full((2, 8), 5))
    unknown = batch_of(partners, [8, 8], torch.full((2, 8), -1))
    assert float(objective(same_label=False)._contrast(frames, same)[0]) == 0  # no negatives are left
    whole = float(objective()._contrast(frames, same)[0])
    assert whole > 1
    assert float(objective(same_label=False)._contrast(frames, unknown)[0]) == pytest.approx(whole)


def test_a_voice_that_is_a_constant_does_not_matter_where_clips_lose_their_mean():
    frames, partners = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(4)), torch.arange(8).repeat(2, 1)
    batch = batch_of(partners, [8, 8])
    voices = frames[:1].repeat(2, 1, 1) + torch.tensor([[[9.0, 0, 0, 0]], [[0, 0, -9.0, 0]]])
    loss, found = objective(clip_mean=True)._contrast(voices, batch)
    assert found.tolist() == [16, 16]
    assert float(objective()._contrast(voices, batch)[0]) > 1.5 * float(loss)


def test_an_encoder_learns_to_find_the_frame_in_the_other_view():
    torch.manual_seed(0)
    encoder, contrast = (
        SpeechEncoder(SMALL).train(),
        FrameContrast(FrameContrastSettings(mask_probability=0), SpeechEncoder(SMALL)),
    )
    wav = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(5)).cumsum(1) / 50  # its spectrum changes
    wav = wav - wav.mean(1, keepdim=True)
    louder = wav * 3 + 0.02 * torch.randn(wav.shape, generator=torch.Generator().manual_seed(6))
    counts = [49] * 4
    batch = batch_of(torch.arange(49).repeat(4, 1), counts)
    batch = Batch(torch.cat([wav, louder]), torch.tensor([16_000] * 4), *list(vars(batch).values())[2:])
    optimizer = torch.optim.AdamW(encoder.parameters(), 3e-3)

    def step():
        output = contrast(encoder, batch)
        optimizer.zero_grad()
        output.losses["contrast"].div(196).backward()
        optimizer.step()
        return float(output.losses["contrast"].detach()), contrast.metrics(output.stats)["recall"]

    before, *_, after = [step() for _ in range(20)]
    assert after[0] < 0.6 * before[0]
    assert after[1] > before[1]


@pytest.mark.parametrize("settings", [{"contrast_temperature": 0}, {"neighbours": -1}, {"chunk_probability": 1.5}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        FrameContrastSettings(**settings)
