"""Peak memory of an hour against a minute, each in a fresh process.

    python tests/bench/bench_memory.py [--minutes 60]                  extraction, WavLM-Large's shape cut at layer 6
    python tests/bench/bench_memory.py [--minutes 60] --model tiny     conversion to a bundled voice

The clip is a 44.1 kHz stereo FLAC of noise; reading, resampling, computation and writing all count.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc import Extractor, VoiceConverter, write

REFERENCE = Path(__file__).parents[2] / "demos" / "samples" / "emma.opus"
LIMITS = {"": 600, "tiny": 300}  # MB of growth, by model


def extract(clip: Path) -> int:
    torch.manual_seed(0)
    encoder = SpeechEncoder(EncoderConfig.wavlm_large(depth=6, normalized=False))
    return Extractor(encoder, 6).save(clip, clip.with_suffix(".safetensors"))


def convert(clip: Path, model: str) -> int:
    converter = VoiceConverter.from_pretrained(model)
    wav = converter.convert(clip, converter.enroll(REFERENCE))
    write(clip.with_suffix(".wav"), wav, converter.sample_rate)
    return len(wav) // converter.vocoder.hop_length


def measure(clip: Path, model: str) -> None:
    torch.set_num_threads(2)
    start = time.perf_counter()
    frames = convert(clip, model) if model else extract(clip)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, frames, f"{time.perf_counter() - start:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--model", default="", choices=LIMITS, help="convert with it instead of extracting")
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.clip:
        measure(options.clip, options.model)
        return
    peaks = []
    for minutes in (1, options.minutes):
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.flac"
            rng = np.random.default_rng(0)
            with soundfile.SoundFile(clip, "w", 44_100, 2) as file:
                for _ in range(minutes):
                    file.write(rng.normal(0, 0.1, (60 * 44_100, 2)).clip(-1, 1))
            command = [sys.executable, __file__, "--clip", str(clip), "--model", options.model]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peak, frames, seconds = map(int, done.stdout.split())
        peaks.append(peak)
        print(f"{minutes:3d} min: peak {peak} MB, {frames} frames in {seconds} s", flush=True)
    print(f"growth: {peaks[1] - peaks[0]} MB (limit {LIMITS[options.model]} MB)")


if __name__ == "__main__":
    main()
