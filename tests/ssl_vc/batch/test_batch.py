"""A batch loses nothing, makes nothing twice, and leaves nothing half done."""

import csv
import itertools
import json
import os
import threading
import time
import warnings
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import ssl_vc
from ssl_vc.batch import worker as batch_worker
from ssl_vc.batch.jobs import plan_jobs, read_jobs
from ssl_vc.batch.run import Job, LocalEngine, convert_batch, run_batch
from ssl_vc.features.extractor import FrameSpec
from ssl_vc.voice.voice import Voice

HEX = "0123456789abcdef"

SPEC = FrameSpec("fake", 4, False, 2)


class Heard:
    def __init__(self, wav):
        self.wav = wav


class Converter:
    """Mixes the voice's first number into the sound, and counts what is asked of it."""

    def __init__(self, matcher="auto"):
        self.extractor = SimpleNamespace(spec=SPEC)
        self.vocoder = SimpleNamespace(reads={"kind": "fake"}, sample_rate=16_000)
        self.matcher, self.approximate, self.analysis = matcher, False, SimpleNamespace(feature_spec={})
        self.encoded, self.enrolled, self.alive, self.peak = [], [], weakref.WeakSet(), 0

    def encode(self, source):
        heard = Heard(ssl_vc.read(source, speech=True))
        self.encoded.append(source)
        self.alive.add(heard)
        self.peak = max(self.peak, len(self.alive))
        return heard

    def convert_detailed(
        self, heard, voice, *, matcher="auto", k=4, blend=1.0, pitch="keep", speed=1.0, loudness=-16.0
    ):
        if k == 13:
            raise RuntimeError("k brings bad luck")
        if matcher == "loud":
            warnings.warn("this is loud", UserWarning, stacklevel=1)
        wav = heard.wav * (10 if matcher == "loud" else blend) + 0.1 * float(voice.frames[0, 0])
        distance = None if matcher == "linear" else 0.25
        return SimpleNamespace(
            wav=wav, sample_rate=16_000, matcher=f"{matcher} {k}", reason="", distance=distance, coverage=0.5, jump=0.3,
            source_jump=float("nan"), warnings=("far away",) if pitch == 12.0 else ()
        )  # fmt: skip

    def enroll(self, sources, name="voice"):
        self.enrolled.append(list(sources))
        level = sum(float(ssl_vc.read(source).abs().mean()) for source in sources)
        return Voice(torch.full((3, 2), level).half(), SPEC, name)


def tone(path, seconds=0.5, pitch=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(int(seconds * 16_000)) * pitch), 16_000)
    return str(path)


def someone(value, name="someone"):
    return Voice(torch.full((3, 2), value).half(), SPEC, name)


@pytest.fixture
def speech(tmp_path):
    """Three sources and two voices."""
    sources = [tone(tmp_path / f"{name}.wav", 0.2 + 0.3 * i, 0.1 + 0.02 * i) for i, name in enumerate("abc")]
    voices = [str(someone(0.5 - i).save(tmp_path / f"{name}.voice")) for i, name in enumerate(("anna", "bert"))]
    return SimpleNamespace(
        sources=sources,
        voices=voices,
        jobs=[Job(source, voice) for voice, source in itertools.product(voices, sources)],
    )


def run_all(jobs, folder, resume=False, converter=None, **options):
    return list(convert_batch(converter or Converter(), jobs, folder, resume, **options))


def contents(folder):
    """Every output's bytes; what is hidden is shown too, the report is not."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("report.")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(folder):
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def test_outputs_are_what_the_converter_gives(tmp_path, speech):
    converter = Converter()
    results = run_all(speech.jobs, tmp_path / "out")
    assert [result.state for result in results] == ["done"] * 6
    assert sorted(contents(tmp_path / "out")) == sorted(f"{s}__{v}.wav" for s in "abc" for v in ("anna", "bert"))
    for result in results:
        voice = Voice.load(result.voice)
        alone = converter.convert_detailed(converter.encode(result.source), voice)
        ssl_vc.write(tmp_path / "alone.wav", alone.wav, alone.sample_rate)
        assert (tmp_path / "out" / result.output).read_bytes() == (tmp_path / "alone.wav").read_bytes()


def test_names_say_where_and_in_which_format(tmp_path, speech):
    a, anna = speech.sources[0], speech.voices[0]
    jobs = [(a, anna, "x"), (a, anna, "deep/er/y.flac"), (a, anna, "v1.2"), (a, [a, a], ""), (a, someone(1.0, "A/B"))]
    run_all(jobs, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["a__A-B.wav", "a__a.wav", "deep/er/y.flac", "v1.2.wav", "x.wav"]
    assert soundfile.info(tmp_path / "out" / "deep" / "er" / "y.flac").format == "FLAC"


def test_samples_are_sources_too(tmp_path, speech):
    wav = ssl_vc.read(speech.sources[0])
    given = {"path": speech.sources[0], "tensor": wav, "pair": (wav.numpy(), 16_000)}
    results = run_all([(source, speech.voices[0], name) for name, source in given.items()], tmp_path / "out")
    assert {result.state for result in results} == {"done"}
    assert len(set(contents(tmp_path / "out").values())) == 1
    again = run_all([(wav.clone(), speech.voices[0], "tensor")], tmp_path / "out", resume=True)
    assert [result.state for result in again] == ["skipped"]
    assert [result.state for result in run_all([(wav * 0.5, speech.voices[0], "tensor")], tmp_path / "out", True)] == [
        "done"
    ]


def test_a_source_is_heard_once_and_only_one_is_held(tmp_path, speech):
    converter = Converter()
    run_all(speech.jobs, tmp_path / "out", converter=converter)
    assert sorted(converter.encoded) == speech.sources
    assert converter.peak <= 2  # the last one, while the next is made


def test_the_longest_come_first(tmp_path, speech):
    long = tone(tmp_path / "long.wav", 5.0)
    results = run_all([(source, speech.voices[0], "") for source in (*speech.sources, long)], tmp_path / "out")
    assert results[0].source == long
    assert results[-1].source == speech.sources[0]


def test_a_row_says_what_happened(tmp_path, speech):
    given = {"matcher": "knn", "k": "3", "pitch": "12"}
    (result,) = run_all([Job(speech.sources[0], speech.voices[0], "x", given)], tmp_path / "out")
    assert result.matcher == "knn 3"
    assert (result.seconds, result.distance, result.coverage, result.jump) == (0.2, 0.25, 0.5, 0.3)
    assert result.source_jump is None  # what is no number is nothing, also in JSON
    assert result.warnings == ("far away",)
    assert result.taken > 0
    assert result.speed_factor == pytest.approx(0.2 / result.taken, rel=0.3)
    assert rows(tmp_path / "out") == [result._asdict() | {"warnings": ["far away"]}]
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["output"], row["state"], row["warnings"]) == ("x.wav", "done", "far away")


def test_options_of_all_jobs_and_of_one(tmp_path, speech):
    a, anna = speech.sources[0], speech.voices[0]
    jobs = [Job(a, anna, "one"), Job(a, anna, "two", {"k": 9})]
    results = run_all(jobs, tmp_path / "out", k=2, matcher="smooth")
    assert [result.matcher for result in results] == ["smooth 2", "smooth 9"]


def test_one_bad_file_never_stops_the_rest(tmp_path, speech):
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    a, anna = speech.sources[0], speech.voices[0]
    bad = {
        "missing": (Job(tmp_path / "gone.wav", anna), "does not exist"),
        "text": (Job(text, anna), "text.wav"),
        "no voice": (Job(a, tmp_path / "gone.voice"), "there is no voice"),
        "no recordings": (Job(a, []), "the job lacks a source or a voice"),
        "no source": (Job("", anna), "the job lacks a source"),
        "k": (Job(a, anna, "", {"k": "many"}), "k is 'many'; give a whole number"),
        "pitch": (Job(a, anna, "", {"pitch": "up"}), "pitch is 'up'; give match or a number of semitones"),
        "loudness": (Job(a, anna, "", {"loudness": "loud"}), "give keep or a number of LUFS"),
        "bug": (Job(a, anna, "", {"k": 13}), "RuntimeError: k brings bad luck"),
    }
    jobs = [Job(job.source, job.voice, name, job.options) for name, (job, _) in bad.items()]
    folder = tmp_path / "out"
    results = {result.output: result for result in run_all([*jobs, *speech.jobs], folder)}
    assert sorted(contents(folder)) == sorted(name for name, result in results.items() if result.state == "done")
    assert sum(result.state == "done" for result in results.values()) == len(speech.jobs)
    for name, (_, words) in bad.items():
        assert results[f"{name}.wav"].state == "failed"
        assert words in results[f"{name}.wav"].error
    again = {result.output: result.state for result in run_all([*jobs, *speech.jobs], folder, resume=True)}
    assert sorted(again.values()) == ["failed"] * len(bad) + ["skipped"] * len(speech.jobs)
    assert len(rows(folder)) == len(bad) + len(speech.jobs)


def test_an_output_that_cannot_be_written_is_named_as_the_user_knows_it(tmp_path, speech):
    (tmp_path / "out" / "x.wav").mkdir(parents=True)
    (result,) = run_all([(speech.sources[0], speech.voices[0], "x")], tmp_path / "out", force=True)
    assert result.state == "failed"
    assert "x.wav" in result.error
    assert ".batch" not in result.error


def test_warnings_belong_to_their_job(tmp_path, speech):
    jobs = [Job(source, speech.voices[0], "", {"matcher": "loud"}) for source in speech.sources[:2]]
    results = run_all([*jobs, Job(speech.sources[2], speech.voices[0])], tmp_path / "out")
    for result in results[-2:]:
        assert result.warnings[0] == "this is loud"
        assert result.output in result.warnings[1]
        assert "would clip" in result.warnings[1]
        assert ".batch" not in result.warnings[1]
    assert results[0].warnings == ()


def test_resuming_gives_the_same_bytes(tmp_path, speech):
    run_all(speech.jobs, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    for stop in range(1, 7):
        folder = tmp_path / str(stop)
        results = convert_batch(Converter(), speech.jobs, folder)
        done = list(itertools.islice(results, stop))
        results.close()
        assert len(contents(folder)) == stop
        assert len(rows(folder)) == stop
        states = {result.output: result.state for result in run_all(speech.jobs, folder, resume=True)}
        assert {output for output, state in states.items() if state == "skipped"} == {row.output for row in done}
        assert contents(folder) == whole
        assert len(rows(folder)) == 6


@pytest.mark.parametrize("order", [[5, 4, 3, 2, 1, 0], [2, 0, 4, 1, 5, 3]])
def test_neither_order_nor_company_changes_a_byte(tmp_path, speech, order):
    run_all(speech.jobs, tmp_path / "whole")
    run_all([speech.jobs[i] for i in order], tmp_path / "order")
    for i, job in enumerate(speech.jobs):
        run_all([job], tmp_path / "alone", resume=i > 0)
    assert contents(tmp_path / "whole") == contents(tmp_path / "order") == contents(tmp_path / "alone")


def delete(tmp_path, speech):
    (tmp_path / "out" / "a__anna.wav").unlink()


def damage(tmp_path, speech):
    with (tmp_path / "out" / "a__anna.wav").open("r+b") as file:
        file.seek(100)
        file.write(b"x")


def change_source(tmp_path, speech):
    tone(tmp_path / "a.wav", 0.2, 0.5)
    return {"a__anna.wav", "a__bert.wav"}


def change_voice(tmp_path, speech):
    someone(0.9).save(speech.voices[0])
    return {f"{source}__anna.wav" for source in "abc"}


def change_options(tmp_path, speech):
    speech.jobs[0] = Job(speech.sources[0], speech.voices[0], "", {"k": 5})


def forget(tmp_path, speech):
    report = tmp_path / "out" / "report.jsonl"
    report.write_text("".join(line + "\n" for line in report.read_text().splitlines() if "a__anna" not in line))


def tear(tmp_path, speech):
    report = tmp_path / "out" / "report.jsonl"
    lines = sorted(report.read_text().splitlines(), key=lambda line: "a__anna" in line)
    report.write_text("\n".join(lines)[:-40])


@pytest.mark.parametrize("change", [delete, damage, change_source, change_voice, change_options, forget, tear])
def test_what_does_not_stand_is_made_again(tmp_path, speech, change):
    run_all(speech.jobs, tmp_path / "out")
    again = change(tmp_path, speech) or {"a__anna.wav"}
    results = run_all(speech.jobs, tmp_path / "out", resume=True)
    assert {result.output for result in results if result.state == "done"} == again
    assert [result.state for result in results].count("skipped") == 6 - len(again)
    run_all(speech.jobs, tmp_path / "fresh")
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    assert sorted(row["output"] for row in rows(tmp_path / "out")) == sorted(contents(tmp_path / "fresh"))


def test_another_model_makes_everything_again(tmp_path, speech):
    run_all(speech.jobs, tmp_path / "out")
    results = run_all(speech.jobs, tmp_path / "out", True, Converter(matcher="linear"))
    assert {result.state for result in results} == {"done"}


def test_new_weights_make_everything_again(tmp_path, speech):
    converter = Converter()
    converter.vocoder = torch.nn.Linear(1, 1)
    converter.vocoder.reads, converter.vocoder.sample_rate = {}, 16_000
    run_all(speech.jobs[:1], tmp_path / "out", False, converter)
    assert run_all(speech.jobs[:1], tmp_path / "out", True, converter)[0].state == "skipped"
    converter.vocoder.bias.data += 1
    assert run_all(speech.jobs[:1], tmp_path / "out", True, converter)[0].state == "done"


def test_what_did_not_change_is_not_heard_again(tmp_path, speech):
    run_all(speech.jobs, tmp_path / "out")
    for path in speech.sources:
        os.utime(path, (1, 1))  # as a copy would
    converter = Converter()
    results = run_all(speech.jobs, tmp_path / "out", True, converter)
    assert {result.state for result in results} == {"skipped"}
    assert converter.encoded == []
    assert {row["state"] for row in rows(tmp_path / "out")} == {"done"}  # it says what is there, not who made it


def test_the_report_keeps_what_is_not_asked_for_this_time(tmp_path, speech):
    run_all(speech.jobs, tmp_path / "out")
    run_all(speech.jobs[:1], tmp_path / "out", resume=True)
    assert len(rows(tmp_path / "out")) == 6
    assert {result.state for result in run_all(speech.jobs, tmp_path / "out", resume=True)} == {"skipped"}


def test_the_report_is_in_the_jobs_order(tmp_path, speech):
    order = [task.output for task in plan_jobs(speech.jobs)]
    results = run_all(speech.jobs, tmp_path / "out")
    assert [result.output for result in results] != order
    assert [row["output"] for row in rows(tmp_path / "out")] == order
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        assert [row["output"] for row in csv.DictReader(file)] == order


def test_the_report_holds_no_formulas(tmp_path, speech):
    """Spreadsheets calculate what begins with one of these; `--resume` still knows the files."""
    names = ["=1+1", "+1+1", "@SUM(A1)", "-2-3"]
    jobs = [(speech.sources[0], someone(1.0, name), f"{name}.wav") for name in names]
    assert {result.state for result in run_all(jobs, tmp_path / "out")} == {"done"}
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["output"] for row in found] == [f"'{name}.wav" for name in names]
    assert [row["voice"] for row in found] == [f"'{name}" for name in names]
    assert {float(row["distance"]) for row in found} == {0.25}
    assert {result.state for result in run_all(jobs, tmp_path / "out", resume=True)} == {"skipped"}


def test_the_report_is_there_while_the_batch_runs(tmp_path, speech, monkeypatch):
    monkeypatch.setattr("ssl_vc.batch.run.TABLE_EVERY", 0)
    for count, _ in enumerate(convert_batch(Converter(), speech.jobs, tmp_path / "out"), 1):
        assert len(rows(tmp_path / "out")) == count
        assert len((tmp_path / "out" / "report.csv").read_text().splitlines()) == count + 1


def test_what_exists_is_kept(tmp_path, speech):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "b__anna.wav").write_text("precious")
    with pytest.raises(ValueError, match=r"b__anna\.wav exists; resume skips finished jobs, force overwrites them"):
        run_all(speech.jobs, folder)
    assert contents(folder) == {"b__anna.wav": b"precious"}
    assert [path.name for path in folder.iterdir()] == ["b__anna.wav"]
    run_all(speech.jobs, folder, force=True)
    assert contents(folder)["b__anna.wav"][:4] == b"RIFF"
    with pytest.raises(ValueError, match=r"report\.jsonl exists"):
        run_all([(speech.sources[0], speech.voices[0], "other")], folder)
    with pytest.raises(ValueError, match="use one of them"):
        run_all(speech.jobs, folder, resume=True, force=True)


def test_force_makes_everything_again(tmp_path, speech):
    run_all(speech.jobs, tmp_path / "out")
    assert {result.state for result in run_all(speech.jobs[:2], tmp_path / "out", force=True)} == {"done"}
    assert len(rows(tmp_path / "out")) == 2


@pytest.mark.parametrize("way", ["name", "link"])
@pytest.mark.parametrize("which", ["source", "recording"])
def test_what_is_read_is_never_overwritten(tmp_path, speech, way, which):
    a, b = speech.sources[:2]
    folder = tmp_path
    if way == "link":
        folder = tmp_path / "link"
        folder.symlink_to(tmp_path)
    job = Job(a, speech.voices[0], "a.wav") if which == "source" else Job(b, [a], "a.wav")
    before = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(ValueError, match=r"a\.wav is both an input and an output"):
        run_all([job], folder, force=True)
    assert (tmp_path / "a.wav").read_bytes() == before


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([("a", "v", "x"), ("b", "v", "x.wav")], "two jobs have the output x.wav"),
        ([("a", "v", "../x")], "is outside the output folder"),
        ([("a", "v", "/x")], "is outside the output folder"),
        ([("a", "v", "deep/../../x")], "is outside the output folder"),
        ([("a", "v", ".batch/x")], "is outside the output folder"),
        ([("a", "v", ".")], "is outside the output folder"),
        ([("a", "v", "x", {"kk": 1})], "there is no option 'kk'; possible are matcher, k"),
        ([("a",)], r"is malformed; use \(source, voice, name\)"),
        ([("a", ("b", "c"), "x")], "a voice is a tuple; use a voice"),
    ],
)
def test_impossible_jobs_are_refused_before_anything_starts(tmp_path, jobs, words):
    with pytest.raises(ValueError, match=words):
        convert_batch(Converter(), jobs, tmp_path / "out")  # at once, not when the first result is asked for
    assert list(tmp_path.iterdir()) == []


def test_recordings_are_enrolled_once(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(batch_worker, "VOICES", 1)  # none of them stays in memory
    targets = [[speech.sources[0]], [speech.sources[1], speech.sources[0]]]
    jobs = [(source, target, f"{i}{j}") for i, source in enumerate(speech.sources) for j, target in enumerate(targets)]
    converter = Converter()
    results = run_all(jobs, tmp_path / "out", converter=converter)
    assert {result.state for result in results} == {"done"}
    assert converter.enrolled == targets
    assert results[1].voice == f"{speech.sources[1]};{speech.sources[0]}"
    assert {result.state for result in run_all(jobs, tmp_path / "out", True, converter)} == {"skipped"}
    assert len(converter.enrolled) == 2
    assert all(name.endswith(".wav") for name in contents(tmp_path / "out"))


def test_few_voices_stay_in_memory(tmp_path, speech, monkeypatch):
    voices = weakref.WeakSet()
    load = Voice.load
    monkeypatch.setattr(Voice, "load", lambda path: (voice := load(path), voices.add(voice))[0])
    paths = [someone(i / 20).save(tmp_path / f"{i}.voice") for i in range(12)]
    most = 0
    for _ in convert_batch(Converter(), [(speech.sources[0], path, "") for path in paths], tmp_path / "out"):
        most = max(most, len(voices))
    assert batch_worker.VOICES <= most <= batch_worker.VOICES + 1


def test_two_batches_in_one_folder(tmp_path, speech):
    first = convert_batch(Converter(), speech.jobs, tmp_path / "out")
    next(first)
    for settings in ({}, {"resume": True}, {"force": True}):
        with pytest.raises(ValueError, match=r"another batch is running in .*out; wait for it, or use another folder"):
            next(convert_batch(Converter(), speech.jobs, tmp_path / "out", **settings))
    run_all(speech.jobs, tmp_path / "other")  # that another folder is held does not matter
    assert len(list(first)) == 5
    assert {result.state for result in run_all(speech.jobs, tmp_path / "out", resume=True)} == {"skipped"}


def test_many_batches_in_one_folder_never_meet(tmp_path, speech):
    inside, most, ended, stop = [], [], [], time.monotonic() + 1

    class Engine:
        def __call__(self, groups, folder, options):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()
            yield from ()

    def try_again_and_again():
        while time.monotonic() < stop:
            try:
                ended.append(list(run_batch(Engine(), speech.jobs, tmp_path / "out", resume=True)))
            except ValueError as error:
                assert "another batch is running" in str(error)

    threads = [threading.Thread(target=try_again_and_again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) > 20
    assert max(most) == 1


def test_a_folder_that_cannot_be_is_named(tmp_path, speech):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file cannot hold outputs: .*; check the folder, its permissions and disk"):
        run_all(speech.jobs, tmp_path / "file")


def test_files_of_others_are_kept(tmp_path, speech):
    parts = tmp_path / "out" / ".batch"
    (parts / f"{HEX}.wav").mkdir(parents=True)
    names = {"thesis.txt", "0123.wav", f"{HEX}.txt", f"{HEX}.wav"}
    for name in names - {f"{HEX}.wav"}:
        (parts / name).write_text("years")
    for _ in range(2):
        assert {result.state for result in run_all(speech.jobs, tmp_path / "out", force=True)} == {"done"}
        assert {path.name for path in parts.iterdir()} == names


def test_a_link_is_refused(tmp_path, speech):
    mine = tmp_path / "mine"
    mine.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".batch").symlink_to(mine)
    for name in ("thesis.txt", f"{HEX}.wav"):
        (mine / name).write_text("years")
    with pytest.raises(ValueError, match=r"\.batch is a link"):
        run_all(speech.jobs, tmp_path / "out")
    assert {path.name for path in mine.iterdir()} == {"thesis.txt", f"{HEX}.wav"}


def test_what_a_killed_run_left_is_removed(tmp_path, speech):
    parts = tmp_path / "out" / ".batch"
    parts.mkdir(parents=True)
    for name in ("lock", "report.csv", f"{HEX}.wav", f"{HEX}.FLAC", f".{HEX}.part.wav", f"{4 * HEX}.voice"):
        (parts / name).write_text("half")
    results = convert_batch(Converter(), speech.jobs, tmp_path / "out", resume=True)
    next(results)
    assert [path.name for path in parts.iterdir()] == ["lock"]  # a voice may be another model's
    list(results)
    assert not parts.exists()


def test_the_model_is_not_made_for_nothing(tmp_path, speech):
    def make():
        raise AssertionError

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a__anna.wav").touch()
    with pytest.raises(ValueError, match="exists"):
        list(run_batch(LocalEngine(make), speech.jobs, tmp_path / "out"))


@pytest.mark.parametrize("there", [True, False])
def test_a_model_that_cannot_be_made_leaves_nothing(tmp_path, speech, there):
    def make():
        raise ValueError("there is no model")

    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    with pytest.raises(ValueError, match="there is no model"):
        list(run_batch(LocalEngine(make), speech.jobs, folder))
    assert folder.exists() == there
    assert {result.state for result in run_all(speech.jobs, folder)} == {"done"}


def write_csv(tmp_path, content):
    path = tmp_path / "jobs.csv"
    path.write_text(content, encoding="utf-8")
    return path


def test_jobs_are_read_from_a_table(tmp_path):
    lines = ["\ufeffsource, voice ,target,name,k,pitch", "a.wav,anna.voice,,one,,", ""]
    lines += ['"b, c.wav",,x.wav; y.wav ;, ,7,-2', "d.wav", ""]
    path = write_csv(tmp_path, "\r\n".join(lines))
    assert read_jobs(path) == [
        Job("a.wav", "anna.voice", "one"),
        Job("b, c.wav", ["x.wav", "y.wav"], "", {"k": "7", "pitch": "-2"}),
        Job("d.wav", []),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "has no columns; it needs source, and voice or target"),
        ("source\na.wav\n", "has the columns source; it needs source, and voice or target"),
        ("source;voice\na;b\n", "has the columns source;voice; it needs"),
        ("source,voice,colour\n", "has the column 'colour'; possible are source, voice, target, name, matcher"),
        ("source,voice,voice\n", "has a column twice"),
        ("source,voice\n\n", "has no jobs"),
        ("source,voice\na,b\nc,d,e\n", "line 3 of .* has 3 cells for 2 columns"),
        ("source,voice,target\na,b,c\n", "line 2 of .* has both a voice and a target"),
        ('source,voice\na,"b\n', "is not a CSV file"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        read_jobs(write_csv(tmp_path, content))


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "jobs.csv").write_bytes("source,voice\nä,b".encode("latin-1"))
    with pytest.raises(ValueError, match="is not a CSV file in UTF-8"):
        read_jobs(tmp_path / "jobs.csv")
