"""Spectrograms and waveforms are valid PNG images of the audio."""

import struct
import zlib

import numpy as np
import pytest
import torch

from ssl_vc.html.spectrogram import WIDTH, png, spectrogram, waveform

RATE = 16_000


def decode(data):
    """Decode the pixels (height, width, 3) of a PNG with a palette."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(name + body)
        chunks[name], at = body, at + 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, kind, rest) == (8, 3, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()  # no filter
    return np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(-1, 3)[rows[:, 1:]]


def lightness(pixels):
    """CIE L* of sRGB."""
    linear = np.where(pixels / 255 <= 0.04045, pixels / 255 / 12.92, ((pixels / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def tone(hertz, seconds=1.0, rate=RATE):
    return 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def test_png_holds_the_pixels():
    palette = np.array([[0, 0, 0], [255, 0, 10], [1, 2, 3]], np.uint8)
    indices = np.array([[0, 1, 2, 1], [2, 2, 0, 0]], np.uint8)
    assert np.array_equal(decode(png(indices, palette)), palette[indices])


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_frequency_goes_up_and_time_goes_right(rate):
    rising = torch.cat([tone(300, rate=rate), tone(4000, rate=rate)])
    light = lightness(decode(spectrogram(rising, rate)))
    height, width = light.shape
    left, right = light[:, : width // 2 - 8].mean(1).argmax(), light[:, width // 2 + 8 :].mean(1).argmax()
    # 300 Hz and 4 kHz on a mel scale from 40 Hz to 8 kHz
    assert left / height == pytest.approx(1 - 0.13, abs=0.03)
    assert right / height == pytest.approx(1 - 0.75, abs=0.03)


def test_silence_is_dark_and_a_common_level_makes_images_comparable():
    assert np.ptp(decode(spectrogram(torch.zeros(RATE), RATE)).reshape(-1, 3), axis=0).max() == 0
    scaled, quiet = (lightness(decode(spectrogram(0.01 * tone(1000), RATE, level=level))) for level in (None, 0.3))
    assert scaled.max() > quiet.max() + 30


def test_a_waveform_is_as_high_as_its_audio():
    wav = torch.cat([torch.zeros(RATE), torch.tensor([0.5, -0.5] * (RATE // 2))])
    light = lightness(decode(waveform(wav, RATE, height=41, level=1.0))) > 50
    width = light.shape[1]
    assert (light[:, : width // 2].sum(0) == 1).all()
    assert light[:, -1].sum() == pytest.approx(21, abs=2)


@pytest.mark.parametrize("samples", [0, 1, 79, 80, 81, 300 * RATE])
def test_both_images_have_equal_widths(samples):
    widths = {decode(draw(torch.rand(samples) - 0.5, RATE)).shape[1] for draw in (spectrogram, waveform)}
    assert len(widths) == 1 and 1 <= widths.pop() <= WIDTH
