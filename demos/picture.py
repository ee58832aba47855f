"""Draw a conversion, source, target and result: python demos/picture.py [SOURCE TARGET] (extra `demo`, for Pillow).

Writes conversion.png: of two given clips to the working directory, of the samples to demos/samples, for the README.
"""

import io
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import ssl_vc
from ssl_vc.html.spectrogram import spectrogram, waveform

SAMPLES = Path(__file__).parent / "samples"
SECONDS = 3.4  # of each sound
WIDTH, OUTLINE, SPECTRUM = 400, 44, 170  # pixels of a panel
GAP, HEADING = 16, 34
TEXT, BACKGROUND = "#1c1b22", "#ffffff"


def draw(panels: dict[str, tuple[Tensor, int]]) -> Image.Image:
    """Returns waveforms and spectrograms side by side, from wavs (samples,) and their rates by heading."""
    size = len(panels) * (WIDTH + GAP) + GAP, HEADING + OUTLINE + SPECTRUM + GAP
    picture, font = Image.new("RGB", size, BACKGROUND), ImageFont.load_default(18)
    for number, (heading, (wav, rate)) in enumerate(panels.items()):
        left, excerpt = GAP + number * (WIDTH + GAP), wav[: round(SECONDS * rate)]
        ImageDraw.Draw(picture).text((left, 8), heading, fill=TEXT, font=font)
        for top, height, function in ((0, OUTLINE, waveform), (OUTLINE, SPECTRUM, spectrogram)):
            part = Image.open(io.BytesIO(function(excerpt, rate, height=height))).convert("RGB")
            picture.paste(part.resize((WIDTH, height), Image.Resampling.LANCZOS), (left, HEADING + top))
    return picture


def main(source: Path, target: Path, output: Path) -> None:
    """Convert the source to the target's voice, and draw all three."""
    converter = ssl_vc.VoiceConverter.from_pretrained()
    result = converter.convert(source, converter.enroll([target]))
    panels = {
        "source": (ssl_vc.read(source), 16_000),
        "target voice": (ssl_vc.read(target), 16_000),
        "result: the source in the target voice": (result.cpu(), converter.sample_rate),
    }
    draw(panels).quantize(64).save(output, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path("conversion.png"))
    else:
        main(SAMPLES / "source.flac", SAMPLES / "emma.opus", SAMPLES / "conversion.png")
