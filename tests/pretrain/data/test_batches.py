"""Manifests, packs, crops and batches: every clip is learned from, in an order that a step's number decides."""

import logging
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import ssl_vc
from pretrain.data.batch import Collator, change_speed
from pretrain.data.dataset import BatchIndex, ClipDataset, ClipStream, batch_indices, length_bucketed_batches
from pretrain.data.manifest import Clip, decode, parallel_clips, read_manifest
from pretrain.data.pack import AudioFiles, build_pack
from pretrain.objectives.hubert import HubertSettings
from pretrain.objectives.protocol import Settings

SECONDS = [1.0 + (7 * n % 40) / 10 for n in range(200)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two speakers' sound, each sample saying where it is."""
    folder = tmp_path_factory.mktemp("sound")
    for number, (speaker, suffix) in enumerate([("anna", "wav"), ("anna", "flac"), ("bert", "wav")]):
        (folder / speaker).mkdir(exist_ok=True)
        wav = torch.arange(16_000 * (number + 2)) / 2**17
        ssl_vc.write(folder / speaker / f"{number}.{suffix}", wav, 16_000)
    return folder


def test_a_folder_is_a_manifest(folder):
    clips = read_manifest(folder)
    assert [(clip.key, clip.speaker, clip.seconds) for clip in clips] == [
        ("anna/0.wav", "anna", 2.0),
        ("anna/1.flac", "anna", 3.0),
        ("bert/2.wav", "bert", 4.0),
    ]


def test_a_table_and_a_kaldi_folder_say_the_same(folder, tmp_path):
    table = tmp_path / "clips.tsv"
    table.write_text(
        f"path\tsplit\tspeaker\ttext\n{folder}/anna/0.wav\ttrain\tanna\thello there\n{folder}/bert/2.wav\tdev\tbert\t\n"
    )
    (tmp_path / "kaldi").mkdir()
    (tmp_path / "kaldi" / "wav.scp").write_text(f"{folder}/anna/0.wav {folder}/anna/0.wav\n")
    (tmp_path / "kaldi" / "utt2spk").write_text(f"{folder}/anna/0.wav anna\n")
    (tmp_path / "kaldi" / "text").write_text(f"{folder}/anna/0.wav hello there\n")
    (one,) = read_manifest(table, "train")
    assert [one] == read_manifest(tmp_path / "kaldi")
    assert (one.text, one.speaker, one.seconds) == ("hello there", "anna", 2.0)
    assert len(read_manifest(table)) == 2


def test_clips_that_cannot_be_used_are_counted_and_named(folder, tmp_path, caplog):
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    ssl_vc.write(tmp_path / "short.wav", torch.ones(800), 16_000)
    table = tmp_path / "clips.tsv"
    paths = [folder / "anna" / "0.wav", tmp_path / "broken.wav", tmp_path / "short.wav", tmp_path / "gone.wav"]
    table.write_text("path\n" + "\n".join(map(str, paths)))
    caplog.set_level(logging.INFO)
    assert len(read_manifest(table)) == 1
    assert "3 clips left out" in caplog.text
    for name in ("broken.wav", "short.wav (too short: 0.05 s)", "gone.wav (not there)"):
        assert name in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no such table of clips"),
        ("file\nx.wav\n", "one called 'path'"),
        ("path\ngone.wav\n", "no usable clips"),
        ('path\ttext\na.wav\t"he said\nb.wav\tyes"\n', "a quotation mark is opened"),
        ("path\ttext\n\tyes\n", "a row without a path"),
    ],
)
def test_tables_without_clips_are_refused(tmp_path, text, message):
    (tmp_path / "clips.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_manifest(tmp_path / "clips.tsv")


def test_clips_without_splits_are_divided_by_speaker(tmp_path, caplog):
    wav = np.zeros(8000, np.float32)
    for speaker in range(25):
        for clip in "ab":
            (tmp_path / f"{speaker:02d}").mkdir(exist_ok=True)
            soundfile.write(tmp_path / f"{speaker:02d}" / f"{clip}.wav", wav, 16_000)
    table = tmp_path / "clips.tsv"
    listed = [f"{clip.path.relative_to(tmp_path)}\t{clip.speaker}" for clip in read_manifest(tmp_path)]
    table.write_text("\n".join(["path\tspeaker", *listed]))
    caplog.set_level(logging.INFO)
    for source in (tmp_path, table):
        train, dev = (read_manifest(source, split) for split in ("train", "dev"))
        assert {clip.speaker for clip in dev} == {"00", "20"} and len(train) == 46
        assert not {clip.key for clip in train} & {clip.key for clip in dev}
        assert f"{source} has no splits; 46 of its 50 clips are used as 'train'" in caplog.text
    one = read_manifest(tmp_path / "00", "train") + read_manifest(tmp_path / "00", "dev")  # a single speaker
    assert [clip.key for clip in one] == ["b.wav", "a.wav"]
    (tmp_path / "00" / "b.wav").unlink()
    assert read_manifest(tmp_path / "00", "train") == read_manifest(tmp_path / "00", "dev")


def test_a_table_with_splits_has_them(folder, tmp_path):
    table = tmp_path / "clips.tsv"
    table.write_text(f'"path"\t"split"\n{folder / "anna" / "0.wav"}\tdev\n')
    assert len(read_manifest(table, "dev")) == 1
    with pytest.raises(ValueError, match="lists no usable clips of the split 'train'"):
        read_manifest(table, "train")


def test_transcripts_beside_the_files_of_a_folder(folder):
    (folder / "anna" / "0.txt").write_text(" Please  call\nStella. \n")
    texts = {clip.key: clip.text for clip in read_manifest(folder)}
    assert texts.pop("anna/0.wav") == "Please call Stella." and set(texts.values()) == {""}


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there are no clips at"):
        read_manifest(tmp_path / "nothing")


def test_stereo_at_another_rate_becomes_mono_at_16_khz(tmp_path):

    soundfile.write(tmp_path / "a.wav", np.stack([np.ones(44_100), np.zeros(44_100)], 1) / 2, 44_100)
    wav = decode(tmp_path / "a.wav")
    assert wav.shape == (16_000,)
    assert wav[4000:12_000] == pytest.approx(0.25, abs=1e-3)


def test_a_pack_holds_what_the_files_do(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    clips = read_manifest(folder)
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    pack = build_pack([*clips, Clip("broken", tmp_path / "broken.wav", 1.0)], tmp_path / "pack")
    assert "broken" in caplog.text
    assert [clip.key for clip in pack.clips] == [clip.key for clip in clips]
    for index in range(3):
        np.testing.assert_allclose(pack.read(index), AudioFiles(clips).read(index), atol=1e-4)
    made = (tmp_path / "pack" / "audio.i16").stat().st_mtime_ns
    build_pack([*clips, Clip("broken", tmp_path / "broken.wav", 1.0)], tmp_path / "pack")
    assert (tmp_path / "pack" / "audio.i16").stat().st_mtime_ns == made
    assert len(build_pack(clips[:1], tmp_path / "pack").clips) == 1


def test_every_clip_comes_once_an_epoch():
    batches = length_bucketed_batches(SECONDS, 30.0, 4.0, np.random.default_rng(0))
    assert sorted(clip for batch in batches for clip in batch) == list(range(200))
    for batch in batches:
        assert len(batch) * min(max(SECONDS[clip] for clip in batch), 4.0) <= 30.0
    padding = sum(len(b) * max(SECONDS[c] for c in b) - sum(SECONDS[c] for c in b) for b in batches) / sum(SECONDS)
    assert padding < 0.1
    assert batches != length_bucketed_batches(SECONDS, 30.0, 4.0, np.random.default_rng(1))


def test_a_clip_longer_than_a_batch_is_a_batch():
    assert length_bucketed_batches([50.0, 1.0], 30.0, 60.0, None) == [[1], [0]]


def test_batch_indices_resume_from_any_number():
    def asked(first, count, **process):
        return list(islice(batch_indices(SECONDS, 30.0, 5.0, seed=3, first=first, **process), count))

    whole = asked(0, 60)
    assert whole[-1].epoch >= 2
    for first in (1, 25, 47):
        assert asked(first, 5) == whole[first : first + 5]
    for step, (mine, theirs) in enumerate(
        zip(asked(0, 60, rank=0, world_size=2), asked(0, 60, rank=1, world_size=2), strict=True)
    ):
        together = sorted(mine.clips + theirs.clips)
        assert together == sorted(whole[step].clips) or (len(whole[step].clips) < len(together) == 4)


class Where(Settings):
    """Masks nothing."""


def clips_of(sounds, **options):
    labels = {clip.key: np.arange((round(clip.seconds * 16_000) - 400) // 320 + 1) for clip in sounds.clips}
    return ClipDataset(sounds, Collator([labels], Where().prepare, longest=1.0, **options), 0)


def test_crops_begin_at_whole_frames_and_keep_their_labels(folder):
    made = clips_of(AudioFiles(read_manifest(folder)))
    starts = set()
    for epoch in range(20):
        batch = made[BatchIndex(epoch, [0, 2])]
        for row in range(2):
            first = round(float(batch.wav[row, 0]) * 2**17)  # a sample says where it is
            assert first % 320 == 0
            assert batch.labels[0, row].tolist() == list(range(first // 320, first // 320 + 49))
            starts.add(first)
        assert batch.counts.tolist() == [49, 49]
    assert len(starts) > 15
    one, again = (vars(made[BatchIndex(3, [0])]) for _ in range(2))
    assert all(torch.equal(one[name], again[name]) for name in one.keys() - {"extra"})
    still = clips_of(AudioFiles(read_manifest(folder)), training=False)[BatchIndex(0, [2])]
    assert float(still.wav[0, 1]) * 2**17 == pytest.approx(1, abs=4)


def test_rows_do_not_depend_on_their_neighbours(folder):
    sounds = AudioFiles(read_manifest(folder))
    labels = {clip.key: np.zeros(200, int) for clip in sounds.clips}
    made = ClipDataset(sounds, Collator([labels], HubertSettings().prepare, longest=2.5), 0)
    together, alone = made[BatchIndex(5, [0, 1])], made[BatchIndex(5, [1])]
    assert torch.equal(together.mask[1], alone.mask[0])
    assert torch.equal(together.wav[1], alone.wav[0])
    assert together.mask[1].any()
    assert together.lengths.tolist() == [32_000, 40_000]
    assert not together.mask[0, together.counts[0] :].any()
    assert (together.labels[0, 0, together.counts[0] :] == -1).all()
    assert not together.wav[0, 32_000:].any()
    assert together.seconds == 4.5


def test_only_uncropped_clips_are_tokenized(folder):
    clips = [clip._replace(text="ab") for clip in read_manifest(folder)]
    labels = {clip.key: np.zeros(300, int) for clip in clips}

    def tokenize(clip):
        return [1, 2] if clip.text == "ab" else None

    made = ClipDataset(AudioFiles(clips), Collator([labels], Where().prepare, longest=2.5, tokenize=tokenize), 0)
    batch = made[BatchIndex(0, [0, 2])]
    assert batch.tokens.tolist() == [[1, 2], [0, 0]]
    assert batch.token_counts.tolist() == [2, 0]


def test_labels_shorter_than_the_sound_are_refused(folder):
    sounds = AudioFiles(read_manifest(folder))
    labels = {clip.key: np.zeros(20, int) for clip in sounds.clips}
    with pytest.raises(ValueError, match=r"anna/0\.wav are shorter than its audio"):
        ClipDataset(sounds, Collator([labels], Where().prepare, longest=9.0), 0)[BatchIndex(0, [0])]


def test_every_process_has_two_clips_of_every_batch():
    """Else there would be nothing to mix, and batches of long clips would be left out."""
    share = [
        list(islice(batch_indices([15.0] * 100, 30.0, 15.6, seed=0, rank=rank, world_size=4), 12)) for rank in range(4)
    ]
    assert all(len(order.clips) == 2 for of in share for order in of)
    assert len({clip for of in share for order in of[:13] for clip in order.clips}) >= 96
    with pytest.raises(ValueError, match="3 clips cannot be shared by 4 processes"):
        next(batch_indices([1.0] * 3, 30.0, 5.0, seed=0, world_size=4))


def test_ranks_of_a_stream_draw_different_masks():
    def masks(rank):
        class Shards:
            def __init__(self):
                self.rank = rank

            def stream(self, *_):
                return iter([(Clip("a", Path("a"), 2.0), np.zeros(32_000, np.float32))])

        make = Collator([{"a": np.zeros(200, int)}], HubertSettings().prepare, longest=9.0)
        return next(iter(ClipStream(Shards(), make, seconds=30.0, shortest=1.0, seed=0))).mask

    assert not torch.equal(masks(0), masks(1))
    assert torch.equal(masks(1), masks(1))


def test_a_folder_that_is_no_pack_is_not_replaced(folder, tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="is no pack of clips"):
        build_pack(read_manifest(folder), tmp_path / "pack")


def test_a_vanished_file_becomes_silence_with_a_warning(folder, tmp_path, caplog):
    gone = AudioFiles([Clip("gone", tmp_path / "gone.wav", 1.5)])
    assert 23_600 < len(gone.read(0)) <= 24_000
    assert "gone cannot be read" in caplog.text


def test_a_stream_yields_every_clip_of_an_epoch_in_batches_of_similar_length():
    clips = [Clip(str(n), Path(str(n)), seconds) for n, seconds in enumerate(SECONDS)]

    class Shards:
        rank = 0

        def stream(self, epoch, skip, worker, workers):
            order = np.random.default_rng(epoch).permutation(len(clips))[worker::workers]
            return ((clips[n], np.full(round(16_000 * clips[n].seconds), n / 1000, np.float32)) for n in order)

    labels = {clip.key: np.full(300, int(clip.key)) for clip in clips if clip.key != "7"}
    make = Collator([labels], Where().prepare, longest=9.0)

    def epoch(first):
        stream = iter(ClipStream(Shards(), make, seconds=30.0, shortest=1.2, seed=0, first=first))
        wanted, seen, batches = sum(s >= 1.2 for s in SECONDS) - 1, [], []
        while len(seen) < wanted:
            batches.append(next(stream))
            seen += batches[-1].labels[0, :, 0].tolist()
        return batches, seen

    batches, seen = epoch(0)
    assert sorted(seen) == [n for n in range(200) if n != 7 and SECONDS[n] >= 1.2]
    for batch in batches:
        assert batch.wav.numel() <= 30 * 16_000
        assert batch.wav[:, 0].tolist() == pytest.approx([n / 1000 for n in batch.labels[0, :, 0].tolist()])
    assert sum(batch.wav.numel() for batch in batches) < 1.1 * sum(int(batch.lengths.sum()) for batch in batches)
    assert epoch(0)[1] == seen != epoch(1)[1]


def test_a_stream_of_nothing_usable_is_refused():
    class Shards:
        rank = 3

        def stream(self, *_):
            return iter([(Clip("a", Path("a"), 0.5), np.zeros(8000, np.float32))])

    make = Collator([], Where().prepare, longest=9.0)
    with pytest.raises(ValueError, match="worker 0 of process 3 has found no clip"):
        next(iter(ClipStream(Shards(), make, seconds=30.0, shortest=1.2, seed=0)))


@pytest.mark.parametrize("speed", [0.8, 1.25, 2.0])
def test_labels_follow_a_change_of_speed(speed):
    samples = 48_000
    # a tone that rises from frame to frame, and labels that say which
    number = np.arange(samples) // 320
    wav = np.sin(2 * np.pi * np.cumsum(300 + 10 * number) / 16_000).astype(np.float32)
    labels = np.arange((samples - 400) // 320 + 1)
    played, (moved, other) = change_speed(wav, [labels, labels % 7], speed)
    assert len(played) == pytest.approx(samples / speed, abs=2)
    assert len(moved) == len(other) == (len(played) - 400) // 320 + 1
    assert (other == moved % 7).all()
    for frame in (3, len(moved) // 2, len(moved) - 4):
        heard = played[frame * 320 : frame * 320 + 400] * np.hanning(400)
        pitch = np.abs(np.fft.rfft(heard, 16_000)).argmax()
        assert pitch / speed == pytest.approx(300 + 10 * (moved[frame] + 0.5), abs=12 * max(speed, 1))


def test_speed_is_perturbed_in_training_only(folder):
    clips = read_manifest(folder)
    files = AudioFiles(clips)
    labels = {clip.key: np.arange(1000) for clip in clips}
    heard = {}
    for training in (True, False):
        make = Collator([labels], Settings().prepare, longest=1.0, speeds=(0.8, 1.25), training=training)
        heard[training] = [ClipDataset(files, make, 0)[BatchIndex(epoch, [0, 1, 2])] for epoch in range(20)]
    assert all((batch.labels[0].diff(dim=1) == 1).all() for batch in heard[False])
    assert {length for batch in heard[False] for length in batch.lengths.tolist()} == {16_000}
    assert all(15_990 <= length <= 16_001 for batch in heard[True] for length in batch.lengths.tolist())
    paces = [float(row[48] - row[0]) / 48 for batch in heard[True] for row in batch.labels[0]]
    assert 0.78 < min(paces) < 0.85 and 1.18 < max(paces) < 1.27
    again = ClipDataset(files, Collator([labels], Settings().prepare, longest=1.0, speeds=(0.8, 1.25)), 0)
    assert torch.equal(again[BatchIndex(7, [0, 1, 2])].wav, heard[True][7].wav)


def parallel_files(folder):
    """The two longer clips as one sentence in two voices."""
    clips = [
        clip._replace(sentence="7" * (clip.seconds > 2), seconds=min(clip.seconds, 3)) for clip in read_manifest(folder)
    ]
    return AudioFiles(clips)


def test_clips_of_one_sentence_and_length_are_parallel(tmp_path, folder):
    rows = [("anna/0.wav", ""), ("anna/1.flac", "7"), ("bert/2.wav", "7")]
    table = tmp_path / "clips.tsv"
    lines = [f"{folder}/{path}\t{3 if sentence else 2}\t{sentence}" for path, sentence in rows]
    table.write_text("path\tseconds\tsentence\n" + "\n".join(lines))
    clips = read_manifest(table)
    assert parallel_clips(clips) == [[0], [1, 2], [1, 2]]
    assert parallel_clips([clips[1], clips[2]._replace(seconds=3.1)]) == [[0], [1]]


def test_two_views_are_parallel_clips_or_the_same_clip_cropped_alike(folder):
    files = parallel_files(folder)
    labels = {clip.key: np.arange(1000 * n, 1000 * n + 250) for n, clip in enumerate(files.clips)}
    made = ClipDataset(files, Collator([labels], Where().prepare, longest=1.0, two_views=True), 0)
    starts = set()
    for epoch in range(8):
        batch = made[BatchIndex(epoch, [0, 1])]
        assert batch.counts.tolist() == [49] * 4
        first, parallel, again, partner = batch.labels[0].tolist()
        assert first == again and first[0] < 1000
        assert partner == [label + 1000 for label in parallel] and 1000 <= parallel[0] < 2000
        torch.testing.assert_close(batch.wav[2:], batch.wav[:2], atol=1e-4, rtol=0)
        assert batch.extra["partners"].tolist() == [list(range(49))] * 4
        starts.add(parallel[0])
    assert len(starts) > 4
    assert torch.equal(made[BatchIndex(3, [0, 1])].wav, made[BatchIndex(3, [0, 1])].wav)
    still = ClipDataset(files, Collator([labels], Where().prepare, longest=1.0, two_views=True, training=False), 0)
    batch = still[BatchIndex(0, [0, 1])]
    assert (batch.extra["partners"][[0, 2]] == -1).all() and batch.extra["partners"][1].tolist() == list(range(49))


def test_partners_are_at_the_same_moment_whatever_the_speeds(folder):
    files = parallel_files(folder)
    labels = {clip.key: np.arange(250) for clip in files.clips}  # a label says when its frame was
    collate = Collator([labels], Where().prepare, longest=2.0, speeds=(0.7, 1.4), two_views=True)
    made, lengths = ClipDataset(files, collate, 0), set()
    for epoch in range(10):
        batch = made[BatchIndex(epoch, [2])]
        lengths |= set(batch.counts.tolist())
        assert batch.counts.max() <= 100
        for row, other in ((0, 1), (1, 0)):
            partners = batch.extra["partners"][row, : batch.counts[row]]
            found = partners >= 0
            assert found.double().mean() > 0.95
            moments = batch.labels[0, row, : batch.counts[row]][found], batch.labels[0, other, partners[found]]
            assert (moments[0] - moments[1]).abs().max() <= 1
            assert (batch.extra["partners"][row, batch.counts[row] :] == -1).all()
    assert len(lengths) > 8
