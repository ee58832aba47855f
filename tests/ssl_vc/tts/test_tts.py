"""Text to speech: what the text model packs and unpacks, how it is learned, and that a text comes out in a voice."""

import json
import shutil

import pytest
import soundfile
import torch

import ssl_vc
from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.cli import main
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.evaluate.pairs import Pair
from ssl_vc.evaluate.systems import Speech
from ssl_vc.features.disentangled import Speech as Heard
from ssl_vc.features.disentangled import parts_of
from ssl_vc.features.extractor import Extractor
from ssl_vc.tts.frames import Said
from ssl_vc.tts.lessons import lessons_of, make_said
from ssl_vc.tts.letters import Letters, judge, learn, parted
from ssl_vc.tts.model import TextModel
from ssl_vc.tts.recipe import TTSConfig
from ssl_vc.tts.speak import TextToSpeech, load_text_model
from ssl_vc.tts.symbols import SYMBOLS
from ssl_vc.tts.training import Trainer
from vocoder.vocos import Vocos, VocosConfig

RATE = 16_000
SMALL = {"conv_dim": 16, "dim": 32, "depth": 2, "heads": 4, "ffn_dim": 64, "matching_layer": 2}
DICTIONARY = "anna AE N AH\nand AE N D\nhello HH AH L OW\nsays S EH Z\nworld W ER L D\na AH\n"
TEXTS = ["Hello, world!", "Anna says hello.", "Hello and hello.", "A world says Anna."]


def converter(cepstra, spoken):
    torch.manual_seed(0)
    extractor = Extractor(SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=cepstra)).eval())
    made = Heard(extractor).made_by if spoken else extractor.spec.facts
    shape = VocosConfig(dim=made["dim"], width=16, ffn_dim=32, depth=1, harmonic=spoken, reads=made)
    return VoiceConverter(extractor, "knn", Vocos(shape).eval())


@pytest.mark.parametrize(("cepstra", "spoken"), [(0.5, True), (0.0, True), (0.5, False)])
def test_what_is_packed_comes_out_again(speech, cepstra, spoken):
    vc = converter(cepstra, spoken)
    heard = vc.encode(speech(3, text=1))
    matched, own = (torch.cat(list(part)) for part in (heard.matched(), heard.spoken()))
    said = Said(vc.extractor.spec, vc.analysis.made_by)
    speaker = said.speaker("man", [own])
    rows = said.pack(matched, own, speaker)
    assert rows.shape == (150, said.dim)
    again, spoken_again = said.unpack(rows, speaker)
    torch.testing.assert_close(again, matched, atol=1e-5, rtol=1e-4)
    if spoken:
        assert 100 < speaker.level < 140
        torch.testing.assert_close(spoken_again, own, atol=2e-4, rtol=1e-3)
        parts = parts_of(vc.analysis.made_by)
        louder = said.unpack(rows * 2, speaker)[1]  # a text model is never exact: content keeps its length
        torch.testing.assert_close(louder[:, parts.content], own[:, parts.content], atol=2e-4, rtol=1e-3)
    else:
        assert spoken_again is again


# ---- letters


def test_letters_learn_a_spelling():
    """Every letter is a phone: what was not in the dictionary is read as well."""
    phones = dict(zip("abdefg", ("AE", "B", "D", "EH", "F", "G"), strict=True))
    generator = torch.Generator().manual_seed(0)
    words = {"".join("abdefg"[n] for n in torch.randint(0, 6, (5,), generator=generator)) for _ in range(600)}
    dictionary = {word: [phones[letter] for letter in word] for word in words}
    learned, other = parted(dictionary, 0.1)
    assert not set(learned) & set(other) and set(learned) | set(other) == words
    letters = [letters for letters, _ in learn(dictionary, steps=200, batch=64, held_out=0.1, dim=48, depth=2)][-1]
    report = judge(letters, other)
    assert report.words < 0.1 and report.phones < 0.05
    long = "".join("abdefg"[n % 6] for n in range(100))
    assert [len(said) for said in letters.read(["bad", long])] == [3, pytest.approx(100, abs=15)]
    assert letters.read([]) == []


def test_what_a_dictionary_has_otherwise_is_remembered(tmp_path):
    letters = Letters(16, 1).eval()
    words = {"anna": ["AE", "N", "AH"], "bob": letters.guess(["bob"])[0], "it's": ["IH", "T", "S"]}
    letters.remember(words)
    assert letters.exceptions.keys() == {"anna", "it's"}
    letters.save(tmp_path / "letters.safetensors")
    again = Letters.load(tmp_path / "letters.safetensors")
    assert again.read(["it's", "bob", "anna"]) == [words["it's"], words["bob"], words["anna"]]
    assert again.guess(["anna"]) == letters.guess(["anna"]) != [words["anna"]]


def test_letters_on_disk(tmp_path):
    letters = Letters(16, 1).eval()
    letters.save(tmp_path / "letters.safetensors")
    again = Letters.load(tmp_path / "letters.safetensors")
    words = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(again(words), letters(words), atol=0.02, rtol=0.02)
    (tmp_path / "letters.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match="does not say how letters are read"):
        Letters.load(tmp_path / "letters.safetensors")


# ---- learning and speaking


@pytest.fixture(scope="module")
def trained(tmp_path_factory, speech):
    """A folder of texts and recordings, a model to speak with, and what `train-tts` makes of them."""
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
        "letters_steps: 2\nsteps: 2\nbatch: 2\nshape: {width: 16, depth: 1, decoder_width: 16, decoder_depth: 1}\n"
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


def test_what_was_learned(tts):
    assert tts.speakers == ["man", "woman"]
    man, woman = tts.model.speakers
    assert man.level == pytest.approx(120, rel=0.1) and woman.level == pytest.approx(210, rel=0.1)
    assert man.timbre.shape == (80,) and not torch.equal(man.timbre, woman.timbre)
    matched, spoken, lengths = tts.model.say(tts.model.read("hello."))
    assert len(matched) == len(spoken) == int(lengths.sum())
    assert matched.shape[1] == tts.converter.extractor.spec.dim and spoken.shape[1] == tts.converter.vocoder.dim


def test_a_text_in_a_voice(tts, speech):
    anna = tts.converter.enroll((speech(6, text=9, pitch=210.0, size=1.2), RATE), "anna")
    own, hers, half = (
        tts.speak("Hello, world! 5 words.", voice, blend=blend) for voice, blend in ((None, 1), (anna, 1), (anna, 0.5))
    )
    assert len(own) == len(hers) == len(half) and bool(hers.isfinite().all())
    assert not torch.equal(own, hers) and not torch.equal(half, hers)
    assert torch.equal(tts.speak("Hello, world! 5 words.", anna), hers)
    assert not torch.equal(tts.speak("Hello, world! 5 words.", anna, seed=1), hers)
    none = tts.speak("Hello, world! 5 words.", anna, blend=0, loudness=None)
    torch.testing.assert_close(none, tts.speak("Hello, world! 5 words.", loudness=None), atol=1e-5, rtol=1e-4)


def test_words_can_be_read_by_espeak(trained, monkeypatch):
    folder, _ = trained
    with pytest.raises(ValueError, match="there is no reader 'eyes'; possible are letters, espeak"):
        load_text_model(folder / "run" / "model", "eyes")
    monkeypatch.setattr("ssl_vc.tts.espeak.shutil.which", lambda name: name)
    monkeypatch.setattr("ssl_vc.tts.espeak.Espeak.read", lambda self, words: [["Z"]] * len(words))
    read = load_text_model(folder / "run" / "model", "espeak").read("hello world.")
    assert [SYMBOLS[number] for number in read.symbols] == ["<begin>", "Z", "Z", "."]


def test_the_melody_is_as_wide_as_asked(tts):
    parts, tracks = parts_of(tts.converter.vocoder.reads), []
    for melody in (1.0, 0.0, 2.0):
        generator = torch.Generator().manual_seed(0)
        heard, _ = tts.said("hello and hello world.", melody=melody, generator=generator)
        tracks.append(torch.cat(list(heard.spoken()))[:, parts.pitch][:, 0])
    middle = torch.tensor(tts.model.speakers[0].level).log()
    torch.testing.assert_close(tracks[1], middle.expand(len(tracks[1])))
    torch.testing.assert_close(tracks[2] - middle, 2 * (tracks[0] - middle), atol=1e-4, rtol=1e-3)


def test_words_have_a_blend_of_their_own(tts, speech, monkeypatch):
    """A marked word has the frames that it has where all is said with its blend."""
    anna = tts.converter.enroll((speech(6, text=9, pitch=210.0, size=1.2), RATE), "anna")
    spoken = []

    def keep(vocoder, pieces, seconds):
        spoken.append(torch.cat(list(pieces)))
        return torch.zeros(round(seconds * RATE))

    monkeypatch.setattr("ssl_vc.conversion.converter.synthesize", keep)
    heard, words = tts.said("hello and hello world.")
    assert len(words) == heard.frames and words.unique().tolist() == [-1, 0, 1, 2, 3]
    plain, border = "hello and hello world.", int((words < 2).sum())
    for text, blend in ((plain, 1), (plain, 0), ("hello and <voice blend=0>hello world.</voice>", 1)):
        tts.speak(text, anna, blend=blend, loudness=None)
    tts.speak(plain, anna, blend=[1, 1, 0, 0], loudness=None)
    matched, own, marked, listed = spoken
    assert torch.equal(marked[:border], matched[:border]) and not torch.equal(own, matched)
    torch.testing.assert_close(marked[border:], own[border:])
    assert torch.equal(listed, marked)


def test_an_evaluation_of_speech(tts, speech, tmp_path):
    made = {}
    pair = Pair("one", tmp_path / "none.wav", "anna", text="Hello, world!")
    own, hers = (Speech(name, tts, made) for name in ("speak:0", "speak"))
    for system in (own, hers):
        system.hear("anna", [speech(6, text=9, pitch=210.0)])
    assert len(made) == 1 and own.voices == hers.voices
    torch.testing.assert_close(hers(pair).wav, tts.speak(pair.text, hers.voices["anna"]))
    torch.testing.assert_close(own(pair).wav, tts.speak(pair.text, hers.voices["anna"], blend=0))
    assert "blend 0" in own.what and own.size_mb > 0
    with pytest.raises(ValueError, match="'speak:half' has no number behind the colon"):
        Speech("speak:half", tts, made)


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
    with pytest.raises(ValueError, match="was learned for another vocoder"):
        TextToSpeech(tts.model, other)
    with pytest.raises(ValueError, match="holds no text model of ours"):
        TextModel.load(tmp_path)


def test_training_goes_on_bit_for_bit(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "said", tmp_path / "said")
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


def test_a_step_learns_from_sentences_of_about_one_length(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "said", tmp_path / "said")
    shutil.copy(folder / "run" / "letters.safetensors", tmp_path)
    shape = {"width": 16, "depth": 1, "decoder_width": 16, "decoder_depth": 1}
    facts = {"clips": str(folder / "clips.tsv"), "dictionary": str(folder / "words.dict")}
    config = TTSConfig(**facts, model=str(folder / "model"), shape=shape, batch=3, device="cpu")
    trainer = Trainer(config, tmp_path)
    every = sorted(lesson.frames for lesson in trainer.lessons)
    batches = [sorted(trainer.batch(step).lengths.tolist()) for step in range(60)]
    assert {length for lengths in batches for length in lengths} == set(every)
    spans = [lengths[-1] - lengths[0] for lengths in batches]
    assert sum(spans) / 60 < 0.4 * (every[-1] - every[0])  # of three by lot it were .6


def test_a_speaker_whom_nobody_can_hear_is_left_out(tmp_path, trained, caplog):
    folder, _ = trained
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    man = folder / "man" / "1.wav"
    table = f"path\tspeaker\ttext\tseconds\n{man}\tman\tHello\t2\n{tmp_path / 'broken.wav'}\ta/b\tHello\t2\n"
    (tmp_path / "clips.tsv").write_text(table)
    facts = {"clips": str(tmp_path / "clips.tsv"), "dictionary": str(folder / "words.dict")}
    config = TTSConfig(**facts, model=str(folder / "model"), device="cpu")
    assert [clip.speaker for clip in make_said(config, tmp_path)] == ["man"]
    assert "broken.wav" in caplog.text
    speakers, lessons = lessons_of(config, tmp_path, Letters.load(folder / "run" / "letters.safetensors"))
    assert [speaker.name for speaker in speakers] == ["man"] and len(lessons) == 1


def test_sentences_that_are_left_out_are_not_learned(trained, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "run" / "said", tmp_path / "said")
    letters = Letters.load(folder / "run" / "letters.safetensors")
    facts = {"clips": str(folder / "clips.tsv"), "dictionary": str(folder / "words.dict")}
    every = lessons_of(TTSConfig(**facts), tmp_path, letters)[1]
    first = every[0].path.relative_to(tmp_path / "said").as_posix().removesuffix(".safetensors")
    fewer = lessons_of(TTSConfig(**facts, leave_out=(first,)), tmp_path, letters)[1]
    assert [each.path for each in fewer] == [each.path for each in every if each.path != every[0].path]


def test_training_refuses(trained, run, tmp_path):
    folder, settings = trained
    order = ("train-tts", folder / "tts.yaml", "-o", folder / "run", *settings)
    status, _, err = run(*order)
    assert status == 1 and "holds a training; --resume goes on" in err
    status, _, err = run(*order, "--resume", "steps=3")
    assert status == 0 and "done: step 3" in err
    for setting, problem in (
        ("steps=0", "steps is 0"),
        ("shape.dim=3", "shape.dim is set"),
        ("clips=", "nothing to learn"),
    ):
        status, _, err = run("train-tts", folder / "tts.yaml", "-o", tmp_path / "x", *settings, setting)
        assert status == 2 and problem in err
    status, _, err = run("train-tts", folder / "tts.yaml", "-o", tmp_path / "x", *settings, "speakers=[nobody]")
    assert status == 1 and "has no clips with texts of nobody" in err


def test_the_command(trained, run, tmp_path, speech):
    folder, _ = trained
    soundfile.write(tmp_path / "anna.wav", speech(6, text=9, pitch=210.0).numpy(), RATE)
    model = ("--model", folder / "model", "--text-model", folder / "run" / "model")
    out = tmp_path / "said.wav"
    status, told, _ = run("speak", "Hello, world!", "-o", out, *model, "--json")
    facts = json.loads(told)
    assert status == 0 and facts["sentences"] == 1 and facts["voice"] == "man"
    assert soundfile.info(out).duration == pytest.approx(facts["seconds"], abs=0.01)
    status, _, err = run("speak", "Hello", "-o", out, *model)
    assert status == 1 and "exists; --force overwrites it" in err
    (tmp_path / "text.txt").write_text("Hello. Anna says 5.")
    order = ("speak", "--file", tmp_path / "text.txt", "--target", tmp_path / "anna.wav", "-o", out, *model, "--force")
    assert run(*order)[1].endswith("2 sentences\n")
    for wrong, status, problem in (
        (("speak", "-o", out), 2, "give TEXT or --file"),
        (("speak", "...", "-o", tmp_path / "no.wav"), 1, "nothing to say"),
        (("speak", "три", "-o", tmp_path / "no.wav"), 1, "not English"),
        (("speak", "hi", "-o", tmp_path / "no.wav", "--voice", out, "--target", out), 2, "--voice or --target"),
    ):
        found, _, err = run(*wrong)
        assert found == status and problem in err
    assert ssl_vc.read(out).isfinite().all()
