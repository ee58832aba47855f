import copy
import math
import sys
import warnings
from dataclasses import replace
from itertools import islice, repeat

import pytest
import torch

import vocoder.world
from vocoder.mel import Mel
from vocoder.pitch import track_pitch
from vocoder.world import World, WorldConfig

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "pkg_resources is deprecated")
    pytest.importorskip("pyworld", reason="needs the extra `world`")

AH = (700, 90), (1200, 110), (2600, 160)
EE = (300, 60), (2300, 120), (3000, 160)


def vowel(f0, rate=16_000, formants=AH):
    """A vowel with this F0 (samples,) and formants of these frequencies and bandwidths."""
    number = torch.arange(1, int(rate / 2 / f0.min()) + 1)[:, None]
    frequency = number * f0
    gain = 1 / number
    for centre, width in formants:
        gain = gain * centre**2 / ((centre**2 - frequency**2) ** 2 + (width * frequency) ** 2).sqrt()
    phase = 2 * torch.pi * ((f0.double() / rate).cumsum(0) % 1).float() * number
    wav = (torch.cos(phase) * gain * (frequency < 0.48 * rate)).sum(0)
    return 0.1 * wav / wav.square().mean().sqrt()


def melody(seconds=0.6, rate=16_000, middle=150.0):
    time = torch.arange(int(seconds * rate)) / rate
    return middle * 2 ** (torch.sin(2 * torch.pi * 1.5 * time) / 6)


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def cents(first, second):
    return 1200 * (first / second).log2().abs()


def shape(world, frames):
    """Decode the mean envelope in dB, up to 4 kHz and about its own mean: (256,)."""
    import pyworld

    cepstra = frames[10:-10, world.envelope].reshape(-1, world.config.cepstra).mean(0, keepdim=True)
    envelope = pyworld.decode_spectral_envelope(cepstra.double().numpy(), 16_000, world.fft_size)
    decibel = 10 * torch.from_numpy(envelope)[0, :256].log10()
    return decibel - decibel.mean()


@pytest.fixture(scope="module")
def world():
    return World(WorldConfig(tracker="dio"))  # ten times faster than the default, which copy-synthesis below tests


@pytest.fixture(scope="module")
def frames(world):
    """Half a second of noise, then a voice."""
    return world.analyze(torch.cat([0.02 * noise(8000), vowel(melody())]))


def test_frame_columns(world, frames):
    assert frames.shape == (55, world.dim)
    assert frames.dtype == torch.float32
    columns = [world.pitch, world.voicing, world.envelope, world.aperiodicity]
    assert [n for part in columns for n in range(part.start, part.stop)] == list(range(world.dim))
    assert not frames[:24, world.voicing].any()
    assert frames[27:, world.voicing].all()
    truth = melody()[80::160].reshape(-1, 2)
    assert cents(frames[25:, world.pitch].exp(), truth)[2:-2].max() < 10
    assert frames[:24, world.pitch].exp().sub(truth[0, 0]).abs().max() < 15  # F0 is interpolated where unvoiced
    assert frames[27:-1, world.aperiodicity].max() < -10 < frames[:24, world.aperiodicity].min()
    louder = world.analyze(2 * torch.cat([0.02 * noise(8000), vowel(melody())]))
    change = (louder - frames)[27:, : world.envelope.stop]
    assert change[:, world.loudness].sub(math.log(4)).abs().max() < 0.01
    change[:, world.loudness] = 0
    assert change.abs().max() < 0.01  # and nothing else
    assert (world.sample_rate, world.hop_length) == (16_000, 320)
    assert world.reads["kind"] == "world"
    assert world.reads["subframes"] == world.config.subframes


@pytest.mark.parametrize("subframes", [1, 2, 4])
def test_copy_synthesis_preserves_f0(subframes):
    world = World(WorldConfig(subframes=subframes))
    wav = vowel(melody())
    copied = world(world.analyze(wav)[None])[0]
    assert cents(track_pitch(copied), track_pitch(wav))[2:-2].median() < 5
    assert cents(track_pitch(copied), track_pitch(wav))[2:-2].max() < 20


@pytest.mark.parametrize("subframes", [1, 2])
@pytest.mark.parametrize("kind", ["voice", "noise"])
def test_copy_synthesis_preserves_timing(subframes, kind):
    """Amplitude modulation at 3 Hz is in phase in the copy."""
    world = World(WorldConfig(subframes=subframes))
    # WORLD chooses its pulse positions, so voiced speech is aligned to within a period only: here 3 ms
    wav = vowel(melody(middle=330.0)) if kind == "voice" else 0.1 * noise(9600)
    wav = wav * 10 ** (0.7 * torch.sin(2 * torch.pi * 3 * torch.arange(len(wav)) / 16_000))
    copied = world(world.analyze(wav)[None])[0]
    level, again = (part.reshape(-1, 160).square().mean(1).log10()[8:-8] for part in (wav, copied))
    apart = torch.stack([(level[3:-3] - again[3 + by : len(again) - 3 + by]).std() for by in range(-3, 4)])
    assert apart.argmin() == 3  # steps of 10 ms
    assert apart[3] < 0.2


def test_an_octave_up_doubles_f0_and_preserves_formants(world):
    frames = world.analyze(vowel(melody(middle=120.0)))
    shifted = world.shift_pitch(frames, 12)
    assert torch.equal(shifted[:, world.envelope], frames[:, world.envelope])
    before, after = (world(some[None])[0] for some in (frames, shifted))
    assert cents(track_pitch(after), 2 * track_pitch(before))[2:-2].max() < 30
    here, there = (shape(world, world.analyze(wav)) for wav in (before, after))
    assert (here - there).abs().mean() < 2
    octave_up = here.repeat_interleave(2)[:256]
    assert (octave_up - there).abs().mean() > 6


def test_replacing_the_envelope_preserves_f0(world):
    """The F0 of one vowel with the formants of another."""
    mixed, other = world.analyze(vowel(melody())), world.analyze(vowel(melody(middle=190.0), formants=EE))
    mixed[:, world.envelope] = other[:, world.envelope]
    wav = world(mixed[None])[0]
    assert cents(track_pitch(wav), track_pitch(vowel(melody())))[2:-2].max() < 20
    result, wanted, before = (
        shape(world, world.analyze(part)) for part in (wav, vowel(melody(), formants=EE), vowel(melody()))
    )
    assert (result - wanted).abs().mean() < 2
    assert (before - wanted).abs().mean() > 6


def test_the_median_pitch_can_be_set(world, frames):
    for some in (frames, torch.stack([frames, world.shift_pitch(frames, 5)])):
        moved = world.set_median_pitch(some, 210.0)
        for row, before in zip(moved.reshape(-1, *frames.shape), some.reshape(-1, *frames.shape), strict=True):
            voiced = row[:, world.voicing] > 0
            assert row[:, world.pitch][voiced].median().exp() == pytest.approx(210, rel=1e-3)
            steps = (row - before)[:, world.pitch]
            torch.testing.assert_close(steps, steps[:1, :1].expand_as(steps), rtol=1e-4, atol=1e-4)
    unvoiced = world.set_median_pitch(world.analyze(torch.zeros(3200)), 100.0)
    torch.testing.assert_close(unvoiced[:, world.pitch].exp(), torch.full((10, 2), 100.0))
    with pytest.raises(ValueError, match="it must be a positive number of Hz"):
        world.set_median_pitch(frames, 0)


def test_averages_can_be_synthesized(world, frames):
    """The mean of two frames is a frame: of voices, of voice and noise, of everything."""
    noisy, voiced = frames[:24].mean(0), frames[30:].mean(0)
    other = world.shift_pitch(frames, 7)
    mean = (frames + other) / 2
    first, both = (track_pitch(world(some[None])[0])[30:-2] for some in (frames, mean))
    assert cents(both, first * 2 ** (3.5 / 12)).max() < 30
    for vector in (noisy, voiced, (noisy + voiced) / 2, frames.mean(0)):
        wav = world(vector.expand(1, 20, -1))
        assert wav.shape == (1, 6400)
        assert wav.isfinite().all()
        assert 1e-4 < wav.abs().max() < 1


def test_batch_equals_single_rows(world, frames):
    lengths = torch.tensor([55, 1, 30])
    wavs = world(frames.expand(3, -1, -1), lengths)
    assert wavs.shape == (3, 55 * 320)
    for wav, length in zip(wavs, lengths.tolist(), strict=True):
        assert torch.equal(wav[: 320 * length], world(frames[None, :length])[0])
        assert not wav[320 * length :].any()


def test_windowed_analysis_equals_one_pass(world, frames, monkeypatch):
    monkeypatch.setattr(vocoder.world, "CORE", 0.4)
    monkeypatch.setattr(vocoder.world, "CONTEXT", 0.3)
    in_windows = world.analyze(torch.cat([0.02 * noise(8000), vowel(melody())]))
    difference = (in_windows - frames).abs()
    assert not difference[:, world.voicing].any()
    assert difference[:, world.pitch].max() < 0.003  # 5 cents
    assert difference[:, world.envelope].max() < 0.1
    assert difference[:, world.aperiodicity].median() < 1  # dB; D4C is randomised


def speech(rate=16_000):
    """Two seconds of vowels, fricatives and pauses; with windows of 0.6 s one starts in each."""
    parts = []
    for seed, (seconds, middle, formants) in enumerate([(0.4, 150, AH), (0.5, 130, EE), (0.5, 170, AH)]):
        parts += [vowel(melody(seconds, rate, middle), rate, formants), 0.03 * noise(rate // 6, seed)]
        parts += [torch.zeros(rate // 9)]
    wav = torch.cat(parts)
    return wav + 1e-4 * noise(len(wav))


def song(rate=16_000):
    """Two seconds of one vowel, voiced throughout."""
    return vowel(melody(2.0, rate), rate) + 1e-4 * noise(2 * rate)


@pytest.fixture(scope="module", params=[speech, song], ids=["speech", "song"])
def clip(world, request):
    return world.analyze(request.param())


def in_windows(monkeypatch, core=0.6, context=0.2):
    monkeypatch.setattr(vocoder.world, "CORE", core)
    monkeypatch.setattr(vocoder.world, "CONTEXT", context)


def seams(wav, core=9600):
    return range(core, len(wav) - 3200, core)


def decibel(part, whole):
    return 10 * (part.square().mean(-1) / whole.square().mean(-1)).log10()


@pytest.mark.parametrize("count", [1, 31, 39, 40, 71, 90])
def test_chunking_does_not_change_a_stream(world, clip, monkeypatch, count):
    in_windows(monkeypatch)
    frames = clip[:count]
    whole = world.synthesize(frames)
    assert (whole.shape, whole.dtype) == ((count * 320,), torch.float32)
    for size in (1, 7, 64):
        assert torch.equal(torch.cat(list(world.stream(frames.split(size)))), whole)
    chunks = [frames[:0], frames[: count // 3], frames[:0], frames[count // 3 :].double()]
    assert torch.equal(torch.cat(list(world.stream(iter(chunks)))), whole)


@pytest.mark.parametrize("count", [1, 50, 524])
def test_streaming_one_window_equals_forward(world, frames, count):
    clip = frames.repeat(10, 1)[:count]
    assert torch.equal(world.synthesize(clip), world(clip[None])[0])


@pytest.mark.parametrize("sound", [speech, song])
@pytest.mark.parametrize(
    "config",
    [WorldConfig(), WorldConfig(22_050, 256, 4), WorldConfig(24_000, 480, 1, low=40.0)],
    ids=lambda config: f"{config.sample_rate}-{config.hop_length}-{config.subframes}",
)
def test_streamed_pulses_match_one_pass(monkeypatch, sound, config):
    """Without aperiodicity, voiced speech is identical on both sides of every seam."""
    in_windows(monkeypatch)
    world = World(replace(config, tracker="dio"))
    frames = world.analyze(sound(config.sample_rate))
    frames[:, world.aperiodicity] = -60.0
    whole, streamed = (wav.view(-1, config.hop_length) for wav in (world(frames[None])[0], world.synthesize(frames)))
    voiced = (frames[:, world.voicing] >= 0.5).all(1)
    inside = voiced.float().unfold(0, 5, 1).amin(1) == 1  # and so are two frames on either side
    apart = decibel(streamed - whole, whole)[2:-2][inside]
    assert inside.sum() > 40
    assert apart.max() < -40


def test_streaming_is_close_to_one_pass(world, clip, monkeypatch):
    in_windows(monkeypatch)
    whole, streamed = world(clip[None])[0], world.synthesize(clip)
    assert decibel(streamed, whole).abs() < 0.1
    apart = (Mel()(whole[None]) - Mel()(streamed[None]))[0].abs().mean(1)
    assert apart.mean() < 0.2  # nepers: the noise is another
    for seam in seams(whole):
        near = slice(seam - 800, seam + 880)
        assert decibel(streamed[near], whole[near]).abs() < 1.5
        assert streamed[seam - 2 : seam + 82].diff().abs().max() <= 1.1 * whole[near].diff().abs().max()


def test_seams_do_not_click_in_low_frequency_noise(world, monkeypatch):
    """Adjacent samples hardly differ, but those of two different noises do."""
    in_windows(monkeypatch)
    low = torch.hann_window(800)[None, None] / 800
    rumble = world.analyze(torch.nn.functional.conv1d(noise(32_000)[None], low)[0])[5:-5].repeat(3, 1)
    rumble[:, world.voicing] = 0
    wav = world.synthesize(rumble)
    at_seams = torch.stack([wav[seam - 2 : seam + 82].diff().abs().max() for seam in seams(wav)])
    assert len(at_seams) > 5
    assert at_seams.max() <= world(rumble[None]).diff().abs().max()


def test_endless_streams_use_bounded_memory(world, frames, monkeypatch):
    in_windows(monkeypatch)
    lengths, synthesize = [], World._synthesize
    monkeypatch.setattr(
        World, "_synthesize", lambda self, clip, f0: lengths.append(len(clip)) or synthesize(self, clip, f0)
    )
    for chunks in (repeat(frames[:3]), repeat(frames.repeat(3, 1))):
        wavs = list(islice(world.stream(chunks), 6))
        assert [len(wav) for wav in wavs] == 6 * [30 * 320]
        assert max(lengths) == 30 + 2 * 10


def test_streams_are_independent(world, clip, frames, monkeypatch):
    in_windows(monkeypatch)
    alone = world.synthesize(clip)
    together = zip(world.stream(clip), world.stream(frames.repeat(9, 1)), strict=False)
    assert torch.equal(torch.cat([wav for wav, _ in together]), alone)


@pytest.mark.parametrize("scale", [1.0, 1e37])
@pytest.mark.parametrize("config", [WorldConfig(), WorldConfig(hop_length=3200, subframes=1)], ids=["short", "long"])
def test_extreme_frames_stream_finite(monkeypatch, scale, config):
    in_windows(monkeypatch)
    world = World(config)
    wav = world.synthesize(scale * noise(80 * world.dim).view(80, -1)[: 25600 // config.hop_length + 4])
    assert len(wav) % config.hop_length == 0
    assert wav.isfinite().all()


def test_wrong_frames_are_refused_in_a_stream(world, frames, monkeypatch):
    in_windows(monkeypatch)
    bad = frames.clone()
    bad[-1, -1] = torch.nan
    with pytest.raises(ValueError, match="values that are NaN or infinite; extract them again"):
        list(world.stream([frames, bad]))
    for wrong in (frames[:, 1:], frames[None], frames[0]):
        with pytest.raises(ValueError, match=r"the frames have shape \(.*\); a clip's are \(frames, "):
            list(world.stream([frames, wrong]))
    with pytest.raises(ValueError, match="the clip has no frames; at least one is needed"):
        world.synthesize(frames[:0])
    assert not list(world.stream([]))


@pytest.mark.parametrize(("rate", "hop"), [(16_000, 320), (22_050, 256), (24_000, 480), (44_100, 882), (48_000, 960)])
def test_every_rate_gives_whole_hops(rate, hop):
    world = World(WorldConfig(rate, hop, tracker="dio"))
    wav = vowel(melody(0.3, rate), rate)
    for samples in (hop - 1, hop, 2 * hop - 1, 5 * hop + 5):
        frames = world.analyze(wav[:samples])
        assert frames.shape == (samples // hop, world.dim)
        if samples >= hop:
            assert world(frames[None]).shape == (1, samples // hop * hop)
    copied = world(world.analyze(wav)[None])[0]
    assert cents(*(track_pitch(part, rate, hop)[3:-3] for part in (copied, wav))).median() < 5


@pytest.mark.parametrize("samples", [320, 2000])
@pytest.mark.parametrize("tracker", ["harvest", "dio"])
def test_silence_noise_clicks_and_offsets(samples, tracker):
    world = World(WorldConfig(tracker=tracker))
    click = torch.zeros(samples)
    click[100] = 1
    for wav in (torch.zeros(samples), noise(samples), click, torch.ones(samples), 1e-30 * noise(samples)):
        frames = world.analyze(wav)
        assert frames.isfinite().all()
        assert world(frames[None]).isfinite().all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0, 1e10, 1e37])
def test_extreme_frames_are_finite(world, scale):
    wav = world(scale * noise(2 * 9 * world.dim).reshape(2, 9, -1))
    assert wav.shape == (2, 9 * 320)
    assert wav.isfinite().all()


def test_it_has_no_weights_and_can_be_copied(world, frames):
    assert not list(world.parameters())
    assert not world.state_dict()
    assert torch.equal(copy.deepcopy(world)(frames[None, :3]), world(frames[None, :3]))


def test_non_finite_input_is_refused(world, frames):
    with pytest.raises(ValueError, match="samples that are NaN or infinite; repair it first"):
        world.analyze(torch.tensor([0.0, torch.inf] * 400))
    with pytest.raises(ValueError, match="values that are NaN or infinite; extract them again"):
        world(frames[None] * torch.nan)
    with pytest.raises(ValueError, match=r"shape \(1, 800\); it must be \(samples,\)"):
        world.analyze(torch.zeros(1, 800))
    with pytest.raises(ValueError, match=r"this vocoder reads \(batch, frames, "):
        world(frames[None, :, 1:])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"sample_rate": 8000}, "at least 12000 Hz"),
        ({"subframes": 3}, "hop_length is 320; it must be a multiple of subframes, 3"),
        ({"cepstra": 1}, "cepstra is 1; it must be from 2 to 100"),
        ({"tracker": "pyin"}, "tracker is 'pyin'; it must be 'harvest' or 'dio'"),
        ({"low": 900.0}, r"low is 900.0, high is 800.0; 40 <= low <= 150 < high <= 2000 is required"),
    ],
)
def test_wrong_configs_are_refused(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        WorldConfig(**wrong)


def test_without_pyworld_the_error_names_the_extra(monkeypatch):
    vocoder.world._pyworld.cache_clear()
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(ValueError, match=r"pip install 'ssl-vc\[world\]'"):
        World()
    monkeypatch.undo()
    assert World().dim
