"""Peak memory of vocoding a long clip piece by piece, against a minute of it; frames come as an extractor gives them.

    python tests/bench/bench_vocoder_memory.py [--minutes 60]

Each measurement is a process of its own. Vocos 512x8, and HiFi-GAN V1 (for a tenth of the time: it is slow).
"""

import argparse
import resource
import subprocess
import sys

import torch

from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.vocos import Vocos, VocosConfig

MODELS = {"vocos": lambda: Vocos(VocosConfig(dim=1024)), "hifigan": lambda: HiFiGAN(HiFiGANConfig())}


def peak_of(kind: str, minutes: float) -> None:
    """Vocode, count the samples, and print the process' peak in MB."""
    torch.manual_seed(0)
    model, pieces = MODELS[kind]().eval(), round(minutes * 6)
    samples = sum(len(wav) for wav in model.stream(torch.randn(500, 1024) for _ in range(pieces)))
    assert samples == pieces * 500 * 320
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", nargs=2, metavar=("KIND", "MINUTES"))
    options = parser.parse_args()
    if options.only:
        peak_of(options.only[0], float(options.only[1]))
        return
    for kind, minutes in (("vocos", options.minutes), ("hifigan", options.minutes / 10)):
        command = [sys.executable, __file__, "--only", kind]
        short, long = (int(subprocess.check_output([*command, str(length)])) for length in (1.0, minutes))
        print(f"{kind}: 1 min {short} MB, {minutes:g} min {long} MB peak: {long - short:+} MB")


if __name__ == "__main__":
    main()
