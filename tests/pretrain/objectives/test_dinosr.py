"""DinoSR and SpidR: labels are the nearest codes of a teacher's blocks, and codes follow their frames."""

import pytest
import torch
import torch.nn.functional as F

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.data.batch import Batch
from pretrain.objectives.dinosr import DinoSr, DinoSrSettings, OnlineCodebooks, SpidrSettings

SHAPE = {"dim": 16, "conv_dim": 16, "depth": 3, "heads": 2, "ffn_dim": 32, "pos_kernel": 8, "pos_groups": 2}
SMALL = EncoderConfig.tiny(**SHAPE, dropout=0.0, attention_dropout=0.0, layer_drop=0.0)
KINDS = {"dinosr": DinoSrSettings, "spidr": SpidrSettings}


def small_batch():
    generator = torch.Generator().manual_seed(0)
    lengths, mask = torch.tensor([8000, 6000]), torch.zeros(2, 24, dtype=torch.bool)
    mask[:, 4:14] = True
    nothing = torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, dtype=torch.long)
    wav = torch.randn(2, 8000, generator=generator) * 0.1
    return Batch(wav, lengths, (lengths - 400) // 320 + 1, mask, torch.zeros(0, 2, 24, dtype=torch.long), *nothing)


def make(kind, **settings):
    torch.manual_seed(0)
    encoder = SpeechEncoder(SMALL)
    return encoder, DinoSr(KINDS[kind](**{"codes": 8, "top_blocks": 2, **settings}), encoder)


def test_codes_are_moving_averages_of_their_frames():
    """Worked out by hand: two codes, of which one gets two frames and the other none."""
    books = OnlineCodebooks(1, 2, 1)
    books.frames.copy_(torch.tensor([[[1.0], [-5.0]]]))
    frames = torch.tensor([[[2.0]], [[0.0]]])
    labels = books(frames)
    assert labels.tolist() == [[0], [0]]
    sums = books.sums(frames, labels)
    assert sums["code frames"].tolist() == [[[2.0], [0.0]]] and sums["code counts"].tolist() == [[2.0, 0.0]]
    books.follow(sums["code frames"], sums["code counts"], 0.9)
    torch.testing.assert_close(books.frames, torch.tensor([[[0.9 * 1 + 0.1 * 2], [-5.0]]]))
    torch.testing.assert_close(books.counts, torch.tensor([[0.9 * 1 + 0.1 * 2, 1.0]]))


def test_the_nearest_code_is_the_label():
    torch.manual_seed(0)
    books, frames = OnlineCodebooks(3, 5, 4), torch.randn(20, 3, 4)
    books.counts.uniform_(0.5, 2.0)
    codes = books.frames / books.counts[:, :, None]
    assert torch.equal(books(frames), torch.stack([torch.cdist(frames[:, b], codes[b]).argmin(1) for b in range(3)], 1))


def test_repeated_frames_pull_the_codes_to_their_means():
    torch.manual_seed(0)
    books = OnlineCodebooks(1, 4, 2)
    centres = torch.tensor([[3.0, 3.0], [-3.0, -3.0]])
    frames = (centres.repeat_interleave(20, 0) + 0.1 * torch.randn(40, 2))[:, None]
    for _ in range(60):
        sums = books.sums(frames, books(frames))
        books.follow(sums["code frames"], sums["code counts"], 0.9)
    labels = books(frames)[:, 0]
    codes = (books.frames / books.counts[:, :, None])[0]
    assert len(set(labels.tolist())) >= 2
    for label in set(labels.tolist()):
        torch.testing.assert_close(codes[label], frames[labels == label, 0].mean(0), atol=0.05, rtol=0)


def test_idle_codes_move_next_to_crowded_ones():
    torch.manual_seed(0)
    books, frames = OnlineCodebooks(2, 8, 4), 0.1 * torch.randn(200, 2, 4)  # nearer to each other than to most codes
    used = []
    for step in range(60):
        labels = books(frames)
        used.append(len(labels[:, 0].unique()))
        sums = books.sums(frames, labels)
        books.follow(sums["code frames"], sums["code counts"], 0.9)
        books.move_idle(sums["code counts"], 5, step)
    assert used[4] < 8 == used[-1]
    again = OnlineCodebooks(2, 8, 4)
    again.load_state_dict(books.state_dict())  # what a resumed training continues with
    for each in (books, again):
        each.move_idle(torch.zeros(2, 8), 100, 7)
    assert torch.equal(books.idle, again.idle) and int(books.idle.max()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_cross_entropy_of_each_blocks_labels(kind):
    encoder, objective = make(kind)
    batch = small_batch()
    found = objective.eval()(encoder.eval(), batch)
    x = encoder.embed(encoder.features(batch.wav, batch.lengths))
    inner, students = [], []
    with torch.no_grad():
        encoder.contextualise(x, batch.counts, inner=inner)  # the teacher is still the student
        encoder.contextualise(encoder.masked(x, batch.mask), batch.counts, inner=students)
        last, losses = found.layers[-1], []
        for block in (0, 1):
            clips = [
                F.instance_norm(row[: int(n)].T[None])[0].T
                for row, n in zip(inner[1 + block], batch.counts, strict=True)
            ]
            frames = torch.cat([clip[m[: len(clip)]] for clip, m in zip(clips, batch.mask, strict=True)])
            labels = torch.cdist(frames, objective.codebooks.frames[block]).argmin(1)
            seen = (students[1 + block] if kind == "spidr" else last)[batch.mask]
            losses.append(F.cross_entropy(objective.predict[block](seen), labels, reduction="sum"))
    torch.testing.assert_close(found.losses["masked"], sum(losses) / 2, rtol=1e-4, atol=1e-4)
    metrics = objective.metrics(found.stats)
    assert 0 <= metrics["accuracy"] <= 1 and 1 <= metrics["label_perplexity"] <= 8


@pytest.mark.parametrize("kind", KINDS)
def test_the_student_learns_to_tell_masked_frames(kind):
    encoder, objective = make(kind, decay=(1.0, 1.0))
    batch = small_batch()
    optimizer, losses = torch.optim.AdamW([*encoder.parameters(), *objective.predict.parameters()], 3e-3), []
    for step in range(20):
        found = objective(encoder, batch)
        loss = found.losses["masked"] / objective.counts(batch)["masked"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(encoder, step, 0.0, found.stats)
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_the_teacher_follows_and_shares_the_students_positions():
    encoder, objective = make("dinosr", decay=(0.5, 0.5), freeze_step=1)
    found, before = objective(encoder, small_batch()), objective.teacher.network.blocks[0].widen.weight.clone()
    with torch.no_grad():
        for parameter in encoder.transformer.parameters():
            parameter.add_(1.0)
    objective.after_step(encoder, 0, 0.0, found.stats)
    torch.testing.assert_close(objective.teacher.network.blocks[0].widen.weight, before + 0.5)
    mine, theirs = (of.position.state_dict() for of in (encoder.transformer, objective.teacher.network))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    objective.after_step(encoder, 1, 0.0, found.stats)  # frozen
    torch.testing.assert_close(objective.teacher.network.blocks[0].widen.weight, before + 0.5)


def test_schedules_are_the_published_ones():
    dinosr, spidr = DinoSrSettings(), SpidrSettings()
    assert [dinosr.decay_at(step) for step in (0, 15_000, 30_000, 200_000)] == pytest.approx(
        [0.999, 0.99945, 0.9999, 1]
    )
    assert [spidr.decay_at(step) for step in (0, 20_000, 400_000)] == pytest.approx([0.999, 1 - 0.001 / 2.71828183, 1])


@pytest.mark.parametrize("settings", [{"codes": 1}, {"top_blocks": 0}, {"code_decay": 1.5}, {"decay": (0.9, 2.0)}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match="code_decay is"):
        DinoSrSettings(**settings)


def test_spidr_needs_all_its_blocks():
    with pytest.raises(ValueError, match=r"the encoder has layer_drop 0\.05, and this objective needs 0\.0"):
        DinoSr(SpidrSettings(), SpeechEncoder(EncoderConfig.tiny(**SHAPE)))
