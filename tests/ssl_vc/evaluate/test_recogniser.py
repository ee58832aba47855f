import itertools
import json
import multiprocessing
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import ssl_vc
from pretrain.labels.tokenizers import PhonemeTokenizer
from ssl_vc.evaluate import recogniser as module
from ssl_vc.evaluate.recogniser import load_recogniser
from ssl_vc.evaluate.sphinx import SphinxDecoder
from ssl_vc.evaluate.text_errors import word_errors

DATA = Path(__file__).parents[4] / "shared" / "data"
TEXTS = ["You ask me to stay away.", "It's five o’clock; the dogs of Zorgblatt ran!", "Wake up."]


@pytest.fixture(scope="module")
def pocketsphinx():
    return pytest.importorskip("pocketsphinx")


@cache
def phonemes():
    return PhonemeTokenizer()


@pytest.fixture(autouse=True)
def dictionary_read_once(monkeypatch):
    monkeypatch.setattr(module, "PhonemeTokenizer", phonemes)


@pytest.fixture
def counting(monkeypatch, pocketsphinx):
    """A recogniser that returns the length of each clip in tenths of a second."""

    class FakeDecoder(SphinxDecoder):
        def _decode(self, clip):
            return f"{len(clip) // 3200}"

    monkeypatch.setattr(module, "SphinxDecoder", FakeDecoder)
    return load_recogniser("pocketsphinx", TEXTS, workers=1)


def model_of(texts):
    return load_recogniser("pocketsphinx", texts, workers=1)._decoder.vocabulary


def test_the_vocabulary_is_that_of_the_sentences(pocketsphinx, caplog):
    vocabulary = model_of(["Read the dog's Zorgblatt!", "the zorgblatt, 1907"])
    assert vocabulary.sentences == ("read the dog's", "the")
    assert vocabulary.dictionary.splitlines() == [
        "dog's D AO G Z",
        "read R EH D",
        "read(2) R IY D",
        "the DH AH",
        "the(2) DH IY",
    ]
    assert "2 words are not in pocketsphinx's dictionary and cannot be recognised: " in caplog.text
    assert caplog.text.count("zorgblatt") == 1 and "1907" in caplog.text


def test_a_genitive_of_a_word_in_the_dictionary_can_be_said(pocketsphinx, caplog):
    vocabulary = model_of(["Philly's bread", "the catfish's bread"])
    assert "philly's F IH L IY Z" in vocabulary.dictionary.splitlines() and not caplog.records
    assert any(line.startswith("catfish's ") and line.endswith("SH AH Z") for line in vocabulary.dictionary.split("\n"))


def test_texts_in_any_order_and_number_are_the_same_judge(pocketsphinx):
    first, again, other = (
        load_recogniser("pocketsphinx", texts).description
        for texts in (["Wake up.", "Good morning"], ["good morning", "wake up", "Wake up!"], ["Wake up."])
    )
    assert first == again != other
    assert "closed vocabulary: a bigram model of the 2 test sentences (" in first
    assert "pocketsphinx 5" in first and "en-us" in first
    general = load_recogniser("pocketsphinx:general", [])
    assert "general model" in general.description and list(general.versions) == ["pocketsphinx"]


@pytest.mark.parametrize("texts", [[], ["", "…"], ["ёлка größe 1907"]])
def test_texts_without_english_words_are_refused(pocketsphinx, texts):
    with pytest.raises(ValueError, match=f"none of {len(texts)} texts .* transformers model of their language"):
        load_recogniser("pocketsphinx", texts)


@pytest.mark.parametrize("name", ["sphinx", "pocketsphinx:german", "a/b/c", __file__])
def test_an_unknown_recogniser_is_refused_with_those_that_are_known(name):
    with pytest.raises(
        ValueError, match=r"no recogniser .*ID, pocketsphinx, pocketsphinx:general, and the folder or hub"
    ):
        load_recogniser(name, TEXTS, offline=True)


@pytest.mark.parametrize("name", ["pocketsphinx", "pocketsphinx:general"])
def test_without_pocketsphinx_its_extra_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ValueError, match=r"pocketsphinx is missing; pip install 'ssl-vc\[eval\]'"):
        load_recogniser(name, TEXTS)


def test_silent_and_very_short_clips_are_empty(counting):
    quiet = [torch.zeros(16_000), torch.full((16_000,), 5e-5), torch.rand(1500), torch.zeros(0)]
    assert list(counting([*quiet, torch.rand(3200), *quiet])) == [""] * 4 + ["2"] + [""] * 4


def test_16_bit_samples_stay_unchanged():
    samples = torch.arange(-32768, 32768, 7).to(torch.int16)
    assert torch.equal(torch.frombuffer(bytearray(module._pcm(samples / 32768)), dtype=torch.int16), samples)


def test_a_sound_is_lowered_rather_than_clipped():
    wav = torch.tensor([0.0, 2.0, -4.0, 1.0]).repeat(800)
    for loud, expected in ((wav, [0, 16384, -32768, 8192]), (wav / 8, [0, 8192, -16384, 4096])):
        samples = torch.frombuffer(bytearray(module._pcm(loud)), dtype=torch.int16)
        assert samples[:4].tolist() == expected and len(samples) == len(wav)


def test_clips_are_consumed_lazily(counting):
    taken = itertools.count()
    texts = counting(torch.rand(1600 * (1 + next(taken) % 5)) for _ in range(1000))
    assert [next(texts) for _ in range(3)] == ["1", "2", "3"]
    assert next(taken) <= 2 * module.CHUNK


def test_results_depend_on_neither_order_nor_processes(pocketsphinx, speech, monkeypatch):
    """With the real pocketsphinx, on what is no speech but has words in it for one who knows a few sentences only."""
    monkeypatch.setattr(module, "CHUNK", 2)
    wavs = [speech(1.5, text=text, pitch=pitch) for text, pitch in ((1, 100), (2, 180), (3, 120), (4, 220), (5, 90))]
    wavs.insert(2, torch.zeros(8000))
    local = load_recogniser("pocketsphinx", TEXTS, workers=1)
    forward = list(local(wavs))
    assert forward[2] == "" and len(set(forward)) > 2
    assert list(local(reversed(wavs))) == forward[::-1]
    assert list(load_recogniser("pocketsphinx", TEXTS, workers=2)(wavs)) == forward
    assert not multiprocessing.active_children()


def test_processes_end_where_nobody_listens_any_more(pocketsphinx, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1)
    texts = load_recogniser("pocketsphinx", TEXTS, workers=2)(torch.zeros(1) for _ in itertools.count())
    assert next(texts) == "" and multiprocessing.active_children()
    texts.close()
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_natural_speech_is_recognised_and_noisy_speech_is_not(pocketsphinx):
    pytest.importorskip("jiwer")
    from pretrain.data.manifest import read_manifest

    clips = [clip for clip in read_manifest(DATA / "manifest.tsv", "dev") if clip.key.startswith("librispeech-6khz")]
    clips = [clip for clip in clips if 3 < clip.seconds < 5][::30]
    wavs = [ssl_vc.read(clip.path) for clip in clips]
    generator = torch.Generator().manual_seed(0)
    noisy = [wav + wav.square().mean().sqrt() * torch.randn(wav.shape, generator=generator) for wav in wavs]
    listen = load_recogniser("pocketsphinx", [clip.text for clip in clips], workers=1)
    errors = []
    for sounds in (wavs, noisy):
        each = [word_errors(clip.text, texts) for clip, texts in zip(clips, listen(sounds), strict=True)]
        errors.append(100 * sum(error.errors for error in each) / sum(error.length for error in each))
    assert errors[0] < 15 and errors[1] > 60, errors


VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


@pytest.fixture(scope="module")
def ctc(tmp_path_factory):
    """A recogniser that learnt nothing, as transformers keeps one on disk."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("ctc")
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(VOCABULARY)}))
    Wav2Vec2CTCTokenizer(folder / "vocab.json").save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Wav2Vec2Config(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2,
            pad_token_id=0,
        )
        model = Wav2Vec2ForCTC(config)
        torch.nn.init.normal_(model.lm_head.weight)  # else it outputs one letter only
        model.half().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A Whisper that learnt nothing."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    folder = tmp_path_factory.mktemp("whisper")
    end, start, plain = special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", end]
    (folder / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([*special[1:], *(f"<|{0.02 * step:.2f}|>" for step in range(1501))], special_tokens=True)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8).save_pretrained(folder)
    end, start, plain = (tokenizer.convert_tokens_to_ids(sign) for sign in special)
    ends = {"decoder_start_token_id": start, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    shape = {
        f"{half}_{what}": count
        for half in ("encoder", "decoder")
        for what, count in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = WhisperConfig(
            vocab_size=len(tokenizer),
            num_mel_bins=8,
            d_model=16,
            max_target_positions=24,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **shape,
            **ends,
        )
        model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_length=24,
        is_multilingual=False,
        no_timestamps_token_id=plain,
        max_initial_timestamp_index=50,
        return_timestamps=False,
        **ends,
    )
    model.save_pretrained(folder)
    return folder


def test_a_model_of_transformers_is_a_judge_too(ctc, speech):
    listen = load_recogniser(str(ctc), [], device="cpu", offline=True)
    wavs = [speech(1.0, text=1), torch.zeros(8000), speech(1.5, text=2), torch.rand(200)]
    texts = list(listen(wavs))
    assert texts[1] == texts[3] == "" and texts[0] and texts[2] and texts[0] != texts[2]
    assert list(listen(reversed(wavs))) == texts[::-1]
    assert str(ctc) in listen.description and set(listen.versions) == {"transformers", str(ctc)}
    assert listen._pipeline.model.dtype == torch.float32  # whatever the file has


def test_whisper_transcribes_beyond_30_seconds(whisper):
    listen = load_recogniser(str(whisper), [], device="cpu", offline=True)
    noise = 0.1 * torch.randn(33 * 16_000, generator=torch.Generator().manual_seed(0))
    long, short, silent = list(listen([noise, noise[:16_000], torch.zeros(16_000)]))
    assert long and silent == "" and set(long) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert list(listen([noise[:16_000], noise])) == [short, long]


def test_a_model_that_recognises_nothing_is_refused(ctc, tmp_path):
    from safetensors.torch import load_file, save_file

    def refused(reason):
        with pytest.raises(ValueError, match=f"cannot be loaded as a recogniser of transformers: .*{reason}"):
            load_recogniser(str(tmp_path), [], device="cpu", offline=True)

    refused("")
    for file in ctc.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(ctc / "model.safetensors")
    save_file({key: value for key, value in weights.items() if "lm_head" not in key}, tmp_path / "model.safetensors")
    refused("2 of its weights are missing, such as lm_head.bias")
    facts = json.loads((ctc / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(facts | {"model_type": "bert", "architectures": None}))
    refused("BertConfig")


def test_offline_a_model_of_the_hub_must_be_in_its_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"nobody/nothing is neither a folder nor in the cache of the hub"):
        load_recogniser("nobody/nothing", [], device="cpu", offline=True)


def test_two_models_have_two_names(ctc, whisper):
    first, second = (load_recogniser(str(folder), [], device="cpu", offline=True) for folder in (ctc, whisper))
    assert first.versions[str(ctc)] != second.versions[str(whisper)]
