"""Vocoders on 10 s of frames, random weights, one run: HiFi-GAN V1 as kNN-VC has it, Vocos 512 x 8, and what is faster.

    python tests/bench/bench_vocoder.py [--seconds 10] [--threads 2] [--repeats 5]

Prints medians, taken in turns so that all see the same machine, and ratios; only the ratios can be trusted. bfloat16 is
timed even where the CPU only emulates it, and the table says so. OpenVINO is timed where the extra `export` is there.
"""

import argparse
import copy
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from ssl_vc.device import fast_bfloat16
from vocoder.bigvgan import BigVGAN, BigVGANConfig
from vocoder.export import OpenVINOVocoder, export
from vocoder.griffin_lim import GriffinLim
from vocoder.hifigan import HiFiGAN, HiFiGANConfig
from vocoder.vocos import Vocos, VocosConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    frames, mel = torch.randn(1, round(options.seconds * 50), 1024), torch.randn(1, round(options.seconds * 50), 80)
    v1, vocos = HiFiGAN(HiFiGANConfig()).eval(), Vocos(VocosConfig(dim=1024)).eval()
    runs = {
        "HiFi-GAN V1 float32": partial(v1, frames),
        "HiFi-GAN V1 bfloat16": partial(copy.deepcopy(v1).bfloat16(), frames),
        "HiFi-GAN V1 float32, in pieces": partial(v1.synthesize, frames[0]),
        "HiFi-GAN V2 float32": partial(HiFiGAN(HiFiGANConfig.v2(1024)).eval(), frames),
        "BigVGAN 128 ch float32": partial(BigVGAN(BigVGANConfig.v2(80)).eval(), mel),
        "Vocos 512x8 float32": partial(vocos, frames),
        "Vocos 512x8 bfloat16": partial(copy.deepcopy(vocos).bfloat16(), frames),
        "Griffin-Lim, 32 steps": partial(GriffinLim(), mel),
    }
    with tempfile.TemporaryDirectory() as name:
        try:
            folder = export(v1, Path(name))
        except ValueError as error:
            print(error)
        else:
            for precision in ("float32", "auto"):
                exported = OpenVINOVocoder(folder, v1.config, v1.context, precision)
                runs[f"HiFi-GAN V1 OpenVINO {precision}"] = partial(exported, frames)
        taken: dict[str, list[float]] = {run: [] for run in runs}
        with torch.no_grad():
            for repeat in range(options.repeats + 1):
                for run, call in runs.items():
                    start = time.perf_counter()
                    call()
                    if repeat:  # the first round only warms up
                        taken[run].append(time.perf_counter() - start)
    slowest = statistics.median(taken["HiFi-GAN V1 float32"])
    print(
        f"{options.seconds:g} s of frames, {options.threads} threads, torch {torch.__version__}; this CPU computes "
        f"in bfloat16: {'yes' if fast_bfloat16(torch.device('cpu')) else 'no, it emulates it'}"
    )
    print(f"{'':32} seconds  real-time factor  times as fast as V1")
    for run, times in taken.items():
        median = statistics.median(times)
        print(f"{run:32} {median:7.3f}  {median / options.seconds:16.4f}  {slowest / median:19.2f}")


if __name__ == "__main__":
    main()
