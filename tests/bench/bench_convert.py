"""Conversion: speed, and peak memory of a long source beside a minute of it, with ten minutes of reference.

    python tests/bench/bench_convert.py [--minutes 60] [--encoder tiny|large]

Each measurement is a process of its own. Weights are random; `tiny` has the shape of the small encoder with a Vocos of
512 channels, `large` six layers of WavLM-Large. The sound is noise that comes and goes.
"""

import argparse
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.features.extractor import Extractor
from ssl_vc.voice.voice import Voice, to_half
from vocoder.vocos import Vocos, VocosConfig

RATE = 16_000
REFERENCE = 30_000  # frames: ten minutes


def sound(minutes: float) -> Tensor:
    """Noise whose level changes four times a second."""
    samples = round(minutes * 60 * RATE)
    wav = torch.randn(samples).mul_(0.1)
    wav.view(-1, RATE // 8)[::2].mul_(0.1)
    return wav


def convert(encoder: str, matcher: str, minutes: float) -> None:
    """Convert so many minutes, and print the process' peak in MB, and times real time."""
    torch.manual_seed(0)
    config = {"tiny": EncoderConfig.tiny(depth=4), "large": EncoderConfig.wavlm_large(depth=6)}[encoder]
    extractor = Extractor(SpeechEncoder(config).eval(), config.depth)
    vc = VoiceConverter(
        extractor, matcher, Vocos(VocosConfig(dim=config.dim, reads=extractor.spec.feature_spec)).eval()
    )
    frames = extractor(sound(0.25))
    voice = Voice(
        to_half(frames[torch.randint(len(frames), (REFERENCE,))] + torch.randn(REFERENCE, config.dim)), extractor.spec
    )
    wav, start = sound(minutes), time.perf_counter()
    assert len(vc.convert(wav, voice)) == len(wav)
    taken = time.perf_counter() - start
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, minutes * 60 / taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--encoder", choices=("tiny", "large"), default="tiny")
    parser.add_argument("--matchers", nargs="+", default=["knn", "smooth", "linear", "transport"])
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        convert(options.only[0], options.only[1], float(options.only[2]))
        return
    for matcher in options.matchers:
        command = [sys.executable, __file__, "--only", options.encoder, matcher]
        short, long = (subprocess.check_output([*command, str(each)]).split() for each in (1.0, options.minutes))
        print(
            f"{options.encoder} {matcher:9} 1 min {int(short[0])} MB, {options.minutes:g} min {int(long[0])} MB peak: "
            f"{int(long[0]) - int(short[0]):+} MB; {float(long[1]):.1f} x real time"
        )


if __name__ == "__main__":
    main()
