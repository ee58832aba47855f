import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from pretrain.data.manifest import Clip, decode
from pretrain.encoder.framing import HOP, RECEPTIVE_FIELD
from pretrain.labels import align as module
from pretrain.labels.align import (
    SYMBOLS,
    AlignmentLabels,
    PhoneAlignments,
    PhoneSegment,
    align,
    frame_phones,
    split_into_states,
)

DATA = Path(__file__).parents[4] / "shared" / "data"
KNOWN = {"hello": ["HH", "AH", "L", "OW"], "you": ["Y", "UW"], "mumble": []}


class Decoder:
    """Stands for pocketsphinx: silence in the first and last 100 ms, the words' phones evenly between them."""

    def __init__(self):
        self.passes, self.known = [], dict(KNOWN)

    def lookup_word(self, word):
        return " ".join(self.known[word]) if word in self.known else None

    def add_word(self, word, phones, update):
        self.known[word] = phones.split()

    def set_align_text(self, text):
        self.text, self.passes = text, ["words"]

    def set_alignment(self):
        self.passes.append("phones")

    def reinit_feat(self):
        self.fresh = True

    def start_utt(self):
        assert self.fresh

    def process_raw(self, sound, full_utt):
        assert full_utt
        self.frames = (len(sound) // 2 - 410) // 160 + 1

    def end_utt(self):
        self.fresh = False
        if "you you" in self.text and self.passes[-1] == "phones":
            raise RuntimeError("Failed to stop utterance processing")

    def hyp(self):
        return None if "mumble" in self.text else self.text

    def get_alignment(self):
        assert self.passes == ["words", "phones"]
        return self

    def phones(self):
        said = [phone for word in self.text.split() for phone in self.known[word]]
        edges = np.linspace(10, self.frames - 10, len(said) + 1).round().astype(int).tolist()
        timed = [("SIL", 0), *zip(said, edges, strict=False), ("+NSN+", edges[-1])]
        return [SimpleNamespace(name=name, start=start) for name, start in timed]


@pytest.fixture
def clips(tmp_path, speech):
    def make(*texts, seconds=1.0, language="en"):
        made = []
        for number, text in enumerate(texts):
            file = tmp_path / f"{number}.wav"
            soundfile.write(file, speech(seconds).numpy(), 16_000)
            made.append(Clip(file.name, file, seconds, "", text, language))
        return made

    return make


@pytest.fixture
def decoder(monkeypatch):
    monkeypatch.setattr(module, "_decoder", Decoder)


def test_a_frame_takes_the_phone_at_its_centre():
    spans = [PhoneSegment("SIL", 0), PhoneSegment("AA", 3), PhoneSegment("ZH", 4), PhoneSegment("+NSN+", 9)]
    samples = 160 * 12 + 410  # 13 frames of theirs, 7 of ours, at 0 2 4 6 8 10 12
    assert frame_phones(spans, samples).tolist() == [0, 0, 39, 39, 39, 0, 0]


@pytest.mark.parametrize(
    "samples", [RECEPTIVE_FIELD, RECEPTIVE_FIELD + HOP - 1, RECEPTIVE_FIELD + HOP, RECEPTIVE_FIELD + 10 * HOP]
)
def test_there_are_as_many_as_the_encoder_has_frames(samples):
    phones = frame_phones([PhoneSegment("AA", 0), PhoneSegment("B", 1)], samples)
    assert phones.tolist() == [1] + [7] * ((samples - RECEPTIVE_FIELD) // HOP)


def test_frame_centres_match_within_a_millisecond():
    """Their frame at the centre of ours is centred within a millisecond of it."""
    ours = HOP * np.arange(50) + RECEPTIVE_FIELD / 2
    theirs = 160 * np.arange(100) + 410 / 2
    assert (np.abs(theirs[:, None] - ours).argmin(0) == 2 * np.arange(50)).all()
    assert np.abs(theirs[::2] - ours).max() < 16


def test_alignments_are_written_and_found_again(clips, decoder, tmp_path):
    made = align(clips("Hello!", "Hello you."), tmp_path / "new" / "phones", workers=1)
    found = PhoneAlignments.open(tmp_path / "new" / "phones")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["phones"]
    for phones in (made, found):
        assert phones.symbols == SYMBOLS and len(SYMBOLS) == 40 and SYMBOLS[0] == "SIL"
        assert "0.wav" in phones and "1.wav" in phones and "2.wav" not in phones and len(phones) == 2
        first, second = phones["0.wav"], phones["1.wav"]
        assert first.dtype == np.int64 and len(first) == len(second) == (16_000 - RECEPTIVE_FIELD) // HOP + 1
        said = [[phones.symbols[number] for number in each] for each in (first, second)]
        assert " ".join(dict.fromkeys(said[0])) == "SIL HH AH L OW"
        assert " ".join(dict.fromkeys(said[1])) == "SIL HH AH L OW Y UW"
        assert said[0][:5] == ["SIL"] * 5 and said[0][5] == "HH" and said[0][-5:] == ["SIL"] * 5


def test_what_cannot_be_aligned_is_left_out_and_named(clips, decoder, tmp_path, caplog):
    listed = clips("hello", "", "hello xyzzy", "mumble", "you you", "hello", "hello", "hello", "hello")
    listed[5] = listed[5]._replace(language="de")
    listed[6].path.write_bytes(b"no sound")
    soundfile.write(listed[7].path, np.zeros(RECEPTIVE_FIELD - 1), 16_000)
    listed[8] = listed[8]._replace(language="")
    with caplog.at_level(logging.INFO):
        phones = align(listed, tmp_path / "phones", workers=1)
    assert [clip.key for clip in listed if clip.key in phones] == ["0.wav", "8.wav"]
    reasons = ["no text", "'xyzzy'", "does not match", "does not match", "'de'", "Error opening", "too short"]
    assert len(phones.left_out) == len(reasons)
    for number, (left_out, reason) in enumerate(zip(phones.left_out, reasons, strict=True), 1):
        assert left_out.startswith(f"{number}.wav (") and reason in left_out
    assert "7 clips left out: 1.wav (no text)" in caplog.text and "2 of 9 clips aligned" in caplog.text


def test_the_genitive_of_a_known_word_is_known(clips, decoder, tmp_path):
    phones = align(clips("you's hello", "hello's"), tmp_path / "phones", workers=1)
    said = [" ".join(dict.fromkeys(SYMBOLS[number] for number in phones[f"{clip}.wav"])) for clip in range(2)]
    assert said == ["SIL Y UW Z HH AH L OW", "SIL HH AH L OW Z"]


def test_alignments_are_labels_where_they_are_known(clips, decoder, tmp_path):
    labels = AlignmentLabels(align(clips("hello", "hello xyzzy"), tmp_path / "phones", workers=1))
    assert labels.clusters == 40 and labels.fingerprint == labels.phones.fingerprint
    assert "0.wav" in labels and "1.wav" in labels
    assert (labels["0.wav"] == labels.phones["0.wav"]).all()
    assert (labels["1.wav"][1000:51000] == np.full(50_000, -1)).all()
    alone = AlignmentLabels(labels.phones, require_alignment=True)
    assert "0.wav" in alone and "1.wav" not in alone


def test_phones_are_divided_into_parts_but_silence_is_not(clips, decoder, tmp_path):
    phones = np.array([0, 0, 0, 5, 7, 7, 3, 3, 3, 3, 2, 2, 2, 0])
    assert split_into_states(phones, 3).tolist() == [0, 0, 0, 16, 21, 23, 9, 10, 10, 11, 6, 7, 8, 0]
    assert (split_into_states(phones, 1) == phones).all()
    assert (split_into_states(phones, 3) // 3 == phones).all()
    labels = AlignmentLabels(align(clips("hello"), tmp_path / "phones", workers=1), states=3)
    assert labels.clusters == 120 and labels.fingerprint != AlignmentLabels(labels.phones).fingerprint
    assert (labels["0.wav"] // 3 == labels.phones["0.wav"]).all() and labels["0.wav"].max() > 40


def test_what_is_there_is_opened_not_made_again(clips, decoder, tmp_path, monkeypatch):
    listed = clips("hello", "hello you")
    align(listed, tmp_path / "phones", workers=1)
    monkeypatch.setattr(module, "_decoder", None)
    assert "1.wav" in align(listed, tmp_path / "phones", workers=1)
    for others in (listed[:1], [listed[0], listed[1]._replace(text="hello")]):
        with pytest.raises(ValueError, match="of other clips; choose another folder"):
            align(others, tmp_path / "phones", workers=1)


def test_nothing_is_left_behind_where_nothing_could_be_aligned(clips, decoder, tmp_path):
    for listed, reason in ((clips("", ""), "none of 2 clips .*0.wav .no text."), ([], "none of 0 clips")):
        with pytest.raises(ValueError, match=reason):
            align(listed, tmp_path / "phones", workers=1)
    assert not list(tmp_path.glob("*phones*"))


def test_a_folder_without_alignments_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no phone alignments at"):
        PhoneAlignments.open(tmp_path)


def test_without_pocketsphinx_the_error_names_the_extra(clips, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ValueError, match=r"pip install 'ssl-vc\[train\]'"):
        align(clips("hello"), tmp_path / "phones", workers=1)


def test_chunks_keep_their_order(clips, decoder, tmp_path, monkeypatch):
    listed = clips("hello", "you", "", "hello you", "you hello")
    whole = align(listed, tmp_path / "whole", workers=1)
    monkeypatch.setattr(module, "CHUNK", 2)
    parts = align(listed, tmp_path / "parts", workers=1)
    assert all((whole[clip.key] == parts[clip.key]).all() for clip in listed if clip.text)
    assert whole.left_out == parts.left_out == ["2.wav (no text)"]


def test_parallel_clips_share_an_alignment(clips, decoder, tmp_path):
    listed = clips("hello", "you", "hello you")
    both = [listed[0]._replace(sentence="1"), listed[1]._replace(sentence="1", text="hello"), listed[2]]
    phones = align(both, tmp_path / "phones", workers=1)
    assert (phones["0.wav"] == phones["1.wav"]).all() and "2.wav" in phones
    with pytest.raises(ValueError, match="of other clips"):
        align([clip._replace(sentence="") for clip in both], tmp_path / "phones", workers=1)


def test_other_processes_give_what_this_one_gives(clips, tmp_path):
    """With the real pocketsphinx; whether it finds the words in what is no speech does not matter here."""
    listed = clips("hello", "good morning", "xyzzy")
    here, there = (align(listed, tmp_path / str(workers), workers=workers) for workers in (1, 2))
    assert here.left_out == there.left_out and here.left_out[-1] == "2.wav (unknown word 'xyzzy')"
    assert [clip.key for clip in listed if clip.key in here] == [clip.key for clip in listed if clip.key in there]
    assert all((here[clip.key] == there[clip.key]).all() for clip in listed if clip.key in here)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_real_speech_is_aligned_with_its_sound(tmp_path):
    name = "librispeech-6khz/1462/1462-170142-0036.mp3"
    clip = Clip(name, DATA / name, 4.0, text="You ask me to stay away from you, because you want me.")
    phones = align([clip], tmp_path / "phones", workers=1)
    said = [phones.symbols[number] for number in phones[name]]
    begun = [phone for phone, last in zip(said, ["", *said], strict=False) if phone != last]
    assert " ".join(begun).startswith("SIL Y UW AE S K M IY T IH S T EY") and begun[-1] == "SIL"
    wav = decode(DATA / name)
    loud = np.array([np.square(wav[HOP * t : HOP * t + RECEPTIVE_FIELD]).mean() for t in range(len(said))])
    decibels = 10 * np.log10(loud / loud.max() + 1e-9)
    silence = np.array([phone == "SIL" for phone in said])
    vowels = np.array([phone in ("UW", "AE", "IY", "EY", "AA") for phone in said])
    assert np.median(decibels[silence]) < np.median(decibels[vowels]) - 25
