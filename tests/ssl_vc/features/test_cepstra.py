"""Cepstra beside an encoder's frames: what a cosine makes of them, and that clips and streams give the same."""

import json

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize, pad

from pretrain import EncoderConfig, SpeechEncoder
from pretrain.labels.mfcc import mfcc
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.features.cepstra import DIM, cepstra, stream_with_cepstra
from ssl_vc.features.extractor import CORE, Extractor, read_frames
from vocoder.vocos import Vocos, VocosConfig

SMALL = {"conv_dim": 16, "dim": 32, "depth": 3, "heads": 4, "ffn_dim": 64, "matching_layer": 2}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(EncoderConfig.tiny(**SMALL, cepstra=0.5)).eval()


def test_rows_are_shapes_and_slopes_of_length_1(speech):
    wav = speech(2, text=1)
    rows = cepstra(wav)
    assert rows.shape == (SpeechEncoder.num_frames(len(wav)), DIM)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    steps = mfcc(wav[None] * (0.05 / wav.square().mean().sqrt()))[0, ::2][: len(rows)]
    loud = steps[:, 0].topk(round(0.6 * len(rows))).indices
    wanted = torch.cat([steps[:, 1:13], steps[:, 14:26]], 1)
    torch.testing.assert_close(rows, normalize(wanted - wanted[loud].mean(0), dim=1), atol=1e-5, rtol=1e-5)


def test_level_and_silence_move_nothing(speech):
    wav = speech(3, text=1)
    rows = cepstra(wav)
    torch.testing.assert_close(cepstra(0.25 * wav), rows, atol=1e-3, rtol=0)
    frames = len(rows) - 2  # the slopes of the last ones reach into what follows
    longer = cepstra(pad(wav, (0, 6_400)))[:frames]
    assert float(cosine_similarity(longer, rows[:frames]).quantile(0.1)) > 0.98


def test_a_microphone_is_taken_off(speech):
    """A fixed filter adds the same to all frames, and goes with their mean."""
    wav = speech(3, text=1)
    bright = wav.clone()
    bright[1:] -= 0.9 * wav[:-1]
    assert float(cosine_similarity(cepstra(bright), cepstra(wav)).median()) > 0.97
    before, after = (mfcc(sound[None])[0, ::2, 1:13] for sound in (wav, bright))
    assert float((after - before).mean(0).norm()) > 10


def test_the_cosine_is_the_mean_of_both(encoder, speech):
    wav = speech(2, text=1)
    frames = Extractor(encoder)(wav)
    pure = Extractor(encoder, weight=0)(wav)
    assert frames.shape[1] == 32 + DIM and pure.shape[1] == 32
    one, other = frames[10:40], frames[50:80]
    pure -= pure.mean(0)
    heard = cosine_similarity(pure[10:40], pure[50:80])
    sounds = cepstra(wav)
    like = cosine_similarity(sounds[10:40], sounds[50:80])
    torch.testing.assert_close(cosine_similarity(one, other), (heard + 0.5 * like) / 1.5, atol=1e-5, rtol=0)


def test_only_the_matching_layer_has_them(encoder):
    assert Extractor(encoder).spec.cepstra == 0.5
    assert Extractor(encoder, 1).spec.cepstra == 0 and Extractor(encoder, 1).spec.dim == 32
    assert Extractor(encoder, 1, weight=2.0).spec.cepstra == 2
    assert "cepstra" not in Extractor(encoder, 1).spec.feature_spec
    with pytest.raises(ValueError, match=r"cepstra 0.5 instead of 0"):
        Extractor(encoder, weight=0).spec.require(Extractor(encoder).spec, "anna.voice")


@pytest.mark.parametrize(("seconds", "part"), [(2.0, 1.0), (0.5, 24 / 50)])
def test_who_speaks_goes_with_the_mean(encoder, speech, seconds, part):
    """Of a very short clip it goes in part, for there the mean also tells what is said."""
    wav = speech(2, text=1)[: int(16_000 * seconds)]
    heard = Extractor(encoder)(wav)[:, :32]
    pure = Extractor(encoder, weight=0)(wav)
    torch.testing.assert_close(heard, normalize(pure - part * pure.mean(0), dim=1))


def test_of_a_long_clip_each_part_has_its_mean(monkeypatch):
    monkeypatch.setattr("ssl_vc.features.cepstra.HELD", 250)
    frames, wav = torch.randn(600, 4), torch.randn(600 * 320 + 80)
    pieces = [(7, piece) for piece in frames.split(100)]
    indices, given = zip(*stream_with_cepstra(pieces, {7: wav}, 0.5), strict=True)
    assert set(indices) == {7}
    parts = [part - part.mean(0) for part in frames.split(300)]
    torch.testing.assert_close(torch.cat(given)[:, :4], normalize(torch.cat(parts), dim=1))
    torch.testing.assert_close(torch.cat(given)[:, 4:], 0.5**0.5 * cepstra(wav))


def test_windows_and_batches_are_the_clip(encoder, speech):
    wav = speech(2, text=1).repeat(9)
    assert SpeechEncoder.num_frames(len(wav)) > CORE + 200
    extractor = Extractor(encoder)
    frames = extractor(wav)
    torch.testing.assert_close(normalize(frames[:, 32:], dim=1), cepstra(wav))
    short, again = extractor.batch([wav[:9_000], wav])
    torch.testing.assert_close(again, frames, atol=1e-5, rtol=0)
    torch.testing.assert_close(short, extractor(wav[:9_000]), atol=1e-5, rtol=0)


def test_files_say_so(encoder, speech, tmp_path):
    extractor = Extractor(encoder)
    extractor.save(speech(1, text=1), tmp_path / "a.safetensors")
    frames, spec = read_frames(tmp_path / "a.safetensors")
    assert spec == extractor.spec and frames.shape[1] == 32 + DIM
    encoder.save_pretrained(tmp_path / "encoder")
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["cepstra"] == 0.5
    assert Extractor.from_pretrained(str(tmp_path / "encoder")).spec == extractor.spec


def test_live_is_what_convert_gives(encoder, speech):
    torch.manual_seed(0)
    extractor = Extractor(encoder)
    shape = VocosConfig(dim=32 + DIM, width=32, ffn_dim=64, depth=2, reads=extractor.spec.feature_spec)
    vc = VoiceConverter(extractor, "knn", Vocos(shape).eval())
    anna = vc.enroll((speech(8, text=1, pitch=210, size=1.2), 16_000), "anna")
    source = speech(2, text=2)
    offline = vc.convert(source, anna, loudness=None)
    stream = vc.stream(anna, lookahead=2.5)  # the whole clip is heard before it is spoken, so its mean is known
    live = torch.cat([stream(source), stream.finish()])
    assert len(live) == len(offline)
    assert float(cosine_similarity(live, offline, dim=0)) > 0.9
