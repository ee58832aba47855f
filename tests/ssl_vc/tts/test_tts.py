"""kNN-TTS: row codec and G2P, training of the text model, and synthesis in a voice."""

import json
import re
import shutil

import pytest
import soundfile
import torch
import typer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.cli import main
from ssl_vc.cli.settings import read_config
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.evaluate.pairs import Pair
from ssl_vc.evaluate.systems import TextToSpeechSystem
from ssl_vc.features.disentangled import DisentangledAnalysis, disentangled_layout
from ssl_vc.features.extractor import Extractor
from ssl_vc.tts.acoustic import RENAMED_LAYERS
from ssl_vc.tts.dataset import extract_rows, load_dataset
from ssl_vc.tts.g2p import G2PModel, evaluate, split_dictionary, train
from ssl_vc.tts.model import TextModel
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.tts.row_codec import RowCodec
from ssl_vc.tts.speak import TextToSpeech, load_text_model
from ssl_vc.tts.symbols import SYMBOLS
from ssl_vc.tts.training import Trainer
from vocoder.vocos import Vocos, VocosConfig

RATE = 16_000
SMALL = {"conv_dim": 16, "dim": 32, "depth": 2, "heads": 4, "ffn_dim": 64, "matching_layer": 2}
DICTIONARY = "anna AE N AH\nand AE N D\nhello HH AH L OW\nsays S EH Z\nworld W ER L D\na AH\n"
TEXTS = ["Hello, world!", "Anna says hello.", "Hello and hello.", "A world says Anna."]


def converter(cepstra, disentangled):
    torch.manual_seed(0)
    extractor = Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=cepstra)).eval())
    made = DisentangledAnalysis(extractor).feature_spec if disentangled else extractor.spec.feature_spec
    shape = VocosConfig(dim=made["dim"], width=16, ffn_dim=32, depth=1, harmonic=disentangled, reads=made)
    return VoiceConverter(extractor, "knn", Vocos(shape).eval())


@pytest.mark.parametrize(("cepstra", "disentangled"), [(0.5, True), (0.0, True), (0.5, False)])
def test_rows_round_trip(speech, cepstra, disentangled):
    vc = converter(cepstra, disentangled)
    source = vc.encode(speech(3, text=1))
    query, vocoder = (torch.cat(list(part)) for part in (source.query_frames(), source.vocoder_frames()))
    codec = RowCodec(vc.extractor.spec, vc.analysis.feature_spec)
    speaker = codec.speaker("man", [vocoder])
    rows = codec.encode(query, vocoder, speaker)
    assert rows.shape == (150, codec.dim)
    query_again, vocoder_again = codec.decode(rows, speaker)
    torch.testing.assert_close(query_again, query, atol=1e-5, rtol=1e-4)
    if disentangled:
        assert 100 < speaker.median_f0 < 140
        torch.testing.assert_close(vocoder_again, vocoder, atol=2e-4, rtol=1e-3)
        parts = disentangled_layout(vc.analysis.feature_spec)
        louder = codec.decode(rows * 2, speaker)[1]  # a text model is never exact: content keeps its length
        torch.testing.assert_close(louder[:, parts.content], vocoder[:, parts.content], atol=2e-4, rtol=1e-3)
    else:
        assert vocoder_again is query_again


# ---- G2P


def test_g2p_learns_a_regular_spelling():
    """Where every letter is a phone, words outside the dictionary are pronounced correctly."""
    phones = dict(zip("abdefg", ("AE", "B", "D", "EH", "F", "G"), strict=True))
    generator = torch.Generator().manual_seed(0)
    words = {"".join("abdefg"[n] for n in torch.randint(0, 6, (5,), generator=generator)) for _ in range(600)}
    dictionary = {word: [phones[letter] for letter in word] for word in words}
    learned, other = split_dictionary(dictionary, 0.1)
    assert not set(learned) & set(other) and set(learned) | set(other) == words
    model = [model for model, _ in train(dictionary, steps=200, batch=64, held_out=0.1, dim=48, depth=2)][-1]
    report = evaluate(model, other)
    assert report.words < 0.1 and report.phones < 0.05
    long = "".join("abdefg"[n % 6] for n in range(100))
    assert [len(phones) for phones in model.phonemize(["bad", long])] == [3, pytest.approx(100, abs=15)]
    assert model.phonemize([]) == []


def test_exceptions_are_stored(tmp_path):
    model = G2PModel(16, 1).eval()
    words = {"anna": ["AE", "N", "AH"], "bob": model.predict(["bob"])[0], "it's": ["IH", "T", "S"]}
    model.store_exceptions(words)
    assert model.exceptions.keys() == {"anna", "it's"}
    model.save(tmp_path / "letters.safetensors")
    again = G2PModel.load(tmp_path / "letters.safetensors")
    assert again.phonemize(["it's", "bob", "anna"]) == [words["it's"], words["bob"], words["anna"]]
    assert again.predict(["anna"]) == model.predict(["anna"]) != [words["anna"]]


def test_a_g2p_model_on_disk(tmp_path):
    model = G2PModel(16, 1).eval()
    model.save(tmp_path / "letters.safetensors")
    again = G2PModel.load(tmp_path / "letters.safetensors")
    words = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(again(words), model(words), atol=0.02, rtol=0.02)
    (tmp_path / "letters.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="is not a G2P model of ssl-vc"):
        G2PModel.load(tmp_path / "letters.safetensors")


def test_a_g2p_model_of_an_earlier_version(tmp_path):
    model = G2PModel(16, 1).eval()
    model.save(tmp_path / "letters.safetensors")
    with safe_open(tmp_path / "letters.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["place"] = tensors.pop("position")
    save_file(tensors, tmp_path / "former.safetensors", metadata)
    again, former = (G2PModel.load(tmp_path / f"{name}.safetensors") for name in ("letters", "former"))
    assert torch.equal(former.position, again.position)


# ---- training and synthesis


@pytest.fixture(scope="module")
def trained(tmp_path_factory, speech):
    """A folder with recordings and transcripts, encoder and vocoder, and the run of `train-tts` on them."""
    folder = tmp_path_factory.mktemp("trained")
    rows = ["path\tspeaker\ttext\tseconds"]
    for number, text in enumerate(TEXTS):
        speaker = "man" if number % 2 else "woman"
        (folder / speaker).mkdir(exist_ok=True)
        wav = speech(1.4 + 0.2 * number, text=number, pitch=120.0 if number % 2 else 210.0)
        soundfile.write(folder / speaker / f"{number}.wav", wav.numpy(), RATE)
        rows.append(f"{speaker}/{number}.wav\t{speaker}\t{text}\t2.0")
    (folder / "man" / "broken.wav").write_bytes(b"no sound")
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    (folder / "words.dict").write_text(DICTIONARY)
    vc = converter(0.5, True)
    torch.manual_seed(0)
    SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=0.5)).save_pretrained(folder / "model" / "encoder")
    torch.nn.init.constant_(vc.vocoder.out.bias, -2.0)
    vc.vocoder.save_pretrained(folder / "model" / "vocoder")
    (folder / "tts.yaml").write_text(
        "g2p_steps: 2\nsteps: 2\nbatch: 2\nshape: {width: 16, depth: 1, decoder_width: 16, decoder_depth: 1}\n"
    )
    settings = [f"clips={folder / 'clips.tsv'}", f"model={folder / 'model'}", f"dictionary={folder / 'words.dict'}"]
    with pytest.raises(SystemExit) as stop:
        main(["train-tts", str(folder / "tts.yaml"), "-o", str(folder / "run"), *settings])
    assert stop.value.code == 0
    return folder, settings


@pytest.fixture(scope="module")
def tts(trained):
    folder, _ = trained
    return TextToSpeech.from_pretrained(str(folder / "model"), model=folder / "run" / "model")


def test_speakers_and_frames(tts):
    assert tts.speakers == ["man", "woman"]
    man, woman = tts.model.speakers
    assert man.median_f0 == pytest.approx(120, rel=0.1) and woman.median_f0 == pytest.approx(210, rel=0.1)
    assert man.timbre.shape == (80,) and not torch.equal(man.timbre, woman.timbre)
    query_frames, vocoder_frames, durations = tts.model.generate(tts.model.to_symbols("hello."))
    assert len(query_frames) == len(vocoder_frames) == int(durations.sum())
    assert query_frames.shape[1] == tts.converter.extractor.spec.dim
    assert vocoder_frames.shape[1] == tts.converter.vocoder.dim


def test_a_text_in_a_voice(tts, speech):
    anna = tts.converter.enroll((speech(6, text=9, pitch=210.0, size=1.2), RATE), "anna")
    source, hers, half = (
        tts.speak("Hello, world! 5 words.", voice, blend=blend) for voice, blend in ((None, 1), (anna, 1), (anna, 0.5))
    )
    assert len(source) == len(hers) == len(half) and bool(hers.isfinite().all())
    assert not torch.equal(source, hers) and not torch.equal(half, hers)
    assert torch.equal(tts.speak("Hello, world! 5 words.", anna), hers)
    assert not torch.equal(tts.speak("Hello, world! 5 words.", anna, seed=1), hers)
    none = tts.speak("Hello, world! 5 words.", anna, blend=0, loudness=None)
    torch.testing.assert_close(none, tts.speak("Hello, world! 5 words.", loudness=None), atol=1e-5, rtol=1e-4)


def test_words_may_be_pronounced_by_espeak(trained, monkeypatch):
    folder, _ = trained
    with pytest.raises(ValueError, match="there is no reader 'eyes'; possible are g2p, espeak"):
        load_text_model(folder / "run" / "model", "eyes")
    monkeypatch.setattr("ssl_vc.tts.espeak.shutil.which", lambda name: name)
    monkeypatch.setattr("ssl_vc.tts.espeak.Espeak.phonemize", lambda self, words: [["Z"]] * len(words))
    read = load_text_model(folder / "run" / "model", "espeak").to_symbols("hello world.")
    assert [SYMBOLS[number] for number in read.symbols] == ["<begin>", "Z", "Z", "."]


def test_melody_scales_the_f0_contour(tts):
    parts, tracks = disentangled_layout(tts.converter.vocoder.reads), []
    for melody in (1.0, 0.0, 2.0):
        generator = torch.Generator().manual_seed(0)
        source, _ = tts.encode_sentence("hello and hello world.", melody=melody, generator=generator)
        tracks.append(torch.cat(list(source.vocoder_frames()))[:, parts.pitch][:, 0])
    middle = torch.tensor(tts.model.speakers[0].median_f0).log()
    torch.testing.assert_close(tracks[1], middle.expand(len(tracks[1])))
    torch.testing.assert_close(tracks[2] - middle, 2 * (tracks[0] - middle), atol=1e-4, rtol=1e-3)


def test_words_may_have_their_own_blend(tts, speech, monkeypatch):
    """The frames of a marked word equal those of the whole text at its blend."""
    anna = tts.converter.enroll((speech(6, text=9, pitch=210.0, size=1.2), RATE), "anna")
    vocoded = []

    def keep(vocoder, pieces, seconds):
        vocoded.append(torch.cat(list(pieces)))
        return torch.zeros(round(seconds * RATE))

    monkeypatch.setattr("ssl_vc.conversion.converter.synthesize", keep)
    source, words = tts.encode_sentence("hello and hello world.")
    assert len(words) == source.frames and words.unique().tolist() == [-1, 0, 1, 2, 3]
    plain, border = "hello and hello world.", int((words < 2).sum())
    for text, blend in ((plain, 1), (plain, 0), ("hello and <voice blend=0>hello world.</voice>", 1)):
        tts.speak(text, anna, blend=blend, loudness=None)
    tts.speak(plain, anna, blend=[1, 1, 0, 0], loudness=None)
    matched, predicted, marked, listed = vocoded
    assert torch.equal(marked[:border], matched[:border]) and not torch.equal(predicted, matched)
    torch.testing.assert_close(marked[border:], predicted[border:])
    assert torch.equal(listed, marked)


def test_text_to_speech_as_a_system(tts, speech, tmp_path):
    made = {}
    pair = Pair("one", tmp_path / "none.wav", "anna", text="Hello, world!")
    plain, hers = (TextToSpeechSystem(name, tts, made) for name in ("speak:0", "speak"))
    for system in (plain, hers):
        system.enroll("anna", [speech(6, text=9, pitch=210.0)])
    assert len(made) == 1 and plain.voices == hers.voices
    torch.testing.assert_close(hers(pair).wav, tts.speak(pair.text, hers.voices["anna"]))
    torch.testing.assert_close(plain(pair).wav, tts.speak(pair.text, hers.voices["anna"], blend=0))
    assert "blend 0" in plain.description and plain.size_mb > 0
    with pytest.raises(ValueError, match="'speak:half' has no number after the colon"):
        TextToSpeechSystem("speak:half", tts, made)


def test_sentence_by_sentence(tts):
    parts = list(tts.stream("Hello. And hello! Anna?"))
    assert len(parts) == 5  # with pauses between
    torch.testing.assert_close(torch.cat(parts), tts.speak("Hello. And hello! Anna?", loudness=None))
    fast = tts.speak("Hello. And hello! Anna?", speed=2)
    assert len(fast) < sum(map(len, parts))


def test_what_does_not_fit_is_refused(tts, tmp_path):
    for options, problem in (
        ({"speed": 9}, "speed is 9"),
        ({"melody": -1}, "melody is -1; possible are numbers from 0 to 3"),
        ({"speaker": "bert"}, "there is no speaker 'bert'; possible are man, woman"),
        ({"speaker": 2}, "there is no speaker 2"),
    ):
        with pytest.raises(ValueError, match=problem):
            tts.speak("hello", **options)
    with pytest.raises(ValueError, match="there is nothing to say"):
        tts.speak("...")
    with pytest.raises(ValueError, match="the text model does not fit"):
        TextToSpeech(tts.model, converter(0.0, True))
    other = converter(0.5, False)
    with pytest.raises(ValueError, match="was trained for another vocoder"):
        TextToSpeech(tts.model, other)
    with pytest.raises(ValueError, match="is not a text model of ssl-vc"):
        TextModel.load(tmp_path)


def test_training_resumes_bit_for_bit(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "rows", tmp_path / "rows")
    shutil.copy(folder / "run" / "letters.safetensors", tmp_path)
    facts = {"clips": str(folder / "clips.tsv"), "model": str(folder / "model"), "batch": 2, "steps": 4}
    shape = {"width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1}
    config = TTSConfig(**facts, shape=shape, dictionary=str(folder / "words.dict"), device="cpu")
    whole = Trainer(config, tmp_path)
    losses = list(whole.run())
    again = Trainer(config, tmp_path)
    run = again.run()
    assert [next(run), next(run)] == losses[:2]
    again.save()
    third = Trainer(config, tmp_path)
    third.resume()
    assert third.step == 2 and list(third.run()) == losses[2:]
    for name, value in whole.averaged.items():
        assert torch.equal(third.averaged[name], value)


def former_names(weights):
    """Returns weights under the names of earlier versions."""
    for old, new in RENAMED_LAYERS.items():
        weights = {re.sub(f"^{re.escape(new)}", old, name): value for name, value in weights.items()}
    return weights


def test_runs_of_an_earlier_version_are_resumed(trained, tmp_path):
    """Its rows are in `said`, and its layers have other names."""
    folder, _ = trained
    shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("rows"))
    shutil.copytree(folder / "run" / "rows", tmp_path / "run" / "said")
    shape = {"width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1}
    facts = {"clips": str(folder / "clips.tsv"), "model": str(folder / "model"), "batch": 2, "steps": 3}
    config = TTSConfig(**facts, shape=shape, dictionary=str(folder / "words.dict"), device="cpu")
    runs = []
    for former in (False, True):
        trainer, state = Trainer(config, tmp_path / "run"), torch.load(folder / "run" / "state.pt")
        if former:
            state |= {name: former_names(state[name]) for name in ("acoustic", "averaged")}
            assert any(name.startswith("decoder.when.") for name in state["averaged"])
        torch.save(state, tmp_path / "run" / "state.pt")
        trainer.resume()
        runs.append(list(trainer.run()))
    assert len(runs[0]) == 1 and runs[0] == runs[1]


def test_models_of_an_earlier_version_are_read(trained, tts, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "model", tmp_path / "model")
    weights = former_names(load_file(tmp_path / "model" / "model.safetensors"))
    assert {"begin.weight", "length.0.norm.weight"} <= weights.keys()
    save_file(weights, tmp_path / "model" / "model.safetensors")
    former = TextToSpeech(load_text_model(tmp_path / "model", "letters"), tts.converter)  # the reader's former name
    assert torch.equal(former.speak("hello", warmth=0.5), tts.speak("hello", temperature=0.5))


def test_former_names_of_settings(tmp_path):
    (tmp_path / "tts.yaml").write_text("letters: words.safetensors\nletters_steps: 7\ncut: 32\n")
    former = read_config(tmp_path / "tts.yaml", [], TTSConfig, "tts")
    assert former == TTSConfig(g2p="words.safetensors", g2p_steps=7, segment=32)
    with pytest.raises(typer.BadParameter, match="segment is 0"):
        read_config(tmp_path / "tts.yaml", ["cut=0"], TTSConfig, "tts")


def test_batches_hold_sentences_of_similar_length(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "rows", tmp_path / "rows")
    shutil.copy(folder / "run" / "letters.safetensors", tmp_path)
    shape = {"width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1}
    facts = {"clips": str(folder / "clips.tsv"), "dictionary": str(folder / "words.dict")}
    config = TTSConfig(**facts, model=str(folder / "model"), shape=shape, batch=3, device="cpu")
    trainer = Trainer(config, tmp_path)
    every = sorted(example.frames for example in trainer.examples)
    batches = [sorted(trainer.batch(step).frame_counts.tolist()) for step in range(60)]
    assert {length for lengths in batches for length in lengths} == set(every)
    spans = [lengths[-1] - lengths[0] for lengths in batches]
    assert sum(spans) / 60 < 0.4 * (every[-1] - every[0])  # of three random ones it would be 0.6


def test_a_speaker_without_readable_clips_is_skipped(tmp_path, trained, caplog):
    folder, _ = trained
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    man = folder / "man" / "1.wav"
    table = f"path\tspeaker\ttext\tseconds\n{man}\tman\tHello\t2\n{tmp_path / 'broken.wav'}\ta/b\tHello\t2\n"
    (tmp_path / "clips.tsv").write_text(table)
    facts = {"clips": str(tmp_path / "clips.tsv"), "dictionary": str(folder / "words.dict")}
    config = TTSConfig(**facts, model=str(folder / "model"), device="cpu")
    assert [clip.speaker for clip in extract_rows(config, tmp_path)] == ["man"]
    assert "broken.wav" in caplog.text
    speakers, examples = load_dataset(config, tmp_path, G2PModel.load(folder / "run" / "letters.safetensors"))
    assert [speaker.name for speaker in speakers] == ["man"] and len(examples) == 1


def test_held_out_sentences_are_not_in_the_dataset(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "rows", tmp_path / "rows")
    model = G2PModel.load(folder / "run" / "letters.safetensors")
    facts = {"clips": str(folder / "clips.tsv"), "dictionary": str(folder / "words.dict")}
    every = load_dataset(TTSConfig(**facts), tmp_path, model)[1]
    first = every[0].path.relative_to(tmp_path / "rows").as_posix().removesuffix(".safetensors")
    fewer = load_dataset(TTSConfig(**facts, leave_out=(first,)), tmp_path, model)[1]
    assert [each.path for each in fewer] == [each.path for each in every if each.path != every[0].path]


def test_training_refuses(trained, run, tmp_path):
    folder, settings = trained
    order = ("train-tts", folder / "tts.yaml", "-o", folder / "run", *settings)
    status, _, err = run(*order)
    assert status == 1 and "holds a training; resume it with --resume" in err
    status, _, err = run(*order, "--resume", "steps=3")
    assert status == 0 and "done: step 3" in err
    for setting, problem in (
        ("steps=0", "steps is 0"),
        ("shape.dim=3", "shape.dim is set"),
        ("clips=", "no training data"),
    ):
        status, _, err = run("train-tts", folder / "tts.yaml", "-o", tmp_path / "x", *settings, setting)
        assert status == 2 and problem in err
    status, _, err = run("train-tts", folder / "tts.yaml", "-o", tmp_path / "x", *settings, "speakers=[nobody]")
    assert status == 1 and "has no clips with transcripts by nobody" in err


def test_the_command(trained, run, tmp_path, speech):
    folder, _ = trained
    soundfile.write(tmp_path / "anna.wav", speech(6, text=9, pitch=210.0).numpy(), RATE)
    model = ("--model", folder / "model", "--text-model", folder / "run" / "model")
    out = tmp_path / "speech.wav"
    status, printed, _ = run("speak", "Hello, world!", "-o", out, *model, "--json")
    facts = json.loads(printed)
    assert status == 0 and facts["sentences"] == 1 and facts["voice"] == "man"
    assert soundfile.info(out).duration == pytest.approx(facts["seconds"], abs=0.01)
    status, _, err = run("speak", "Hello", "-o", out, *model)
    assert status == 1 and "exists; --force overwrites it" in err
    (tmp_path / "text.txt").write_text("Hello. Anna says 5.")
    order = ("speak", "--file", tmp_path / "text.txt", "--target", tmp_path / "anna.wav", "-o", out, *model, "--force")
    assert run(*order, "--temperature", 0.6)[1].endswith("2 sentences\n")
    wav = out.read_bytes()
    assert run(*order, "--warmth", 0.6, "--reader", "letters")[0] == 0  # former names
    assert out.read_bytes() == wav and "--warmth" not in run("speak", "--help")[1]
    for wrong, status, problem in (
        (("speak", "-o", out), 2, "give either TEXT or --file"),
        (("speak", "...", "-o", tmp_path / "no.wav"), 1, "nothing to say"),
        (("speak", "три", "-o", tmp_path / "no.wav"), 1, "not English"),
        (
            ("speak", "hi", "-o", tmp_path / "no.wav", "--voice", out, "--target", out),
            2,
            "give either --voice or --target",
        ),
    ):
        found, _, err = run(*wrong)
        assert found == status and problem in err
    assert ssl_vc.read(out).isfinite().all()
