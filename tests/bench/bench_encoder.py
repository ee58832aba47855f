"""Ours against transformers' WavLM, WavLM-Large shape, random weights, one run.

    python tests/bench/bench_encoder.py [--seconds 10] [--depth 6] [--bf16 auto|yes|no]

Prints medians, and what they mean as ratios; timings of shared machines are noisy, so trust only the ratios.
"""

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import WavLMModel

from pretrain import EncoderConfig, SpeechEncoder
from ssl_vc import Extractor
from ssl_vc.device import fast_bfloat16


def seconds_of(*runs: Callable[[], object], repeats: int = 5) -> list[float]:
    """Median time of each, taken in turns so that all see the same machine."""
    times: list[list[float]] = [[] for _ in runs]
    for repeat in range(repeats + 1):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            if repeat:  # the first round only warms up
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--bf16", choices=["auto", "yes", "no"], default="auto", help="whether to time bfloat16 too")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)

    ours = SpeechEncoder(EncoderConfig.wavlm_large(depth=options.depth, normalized=False)).eval()
    with tempfile.TemporaryDirectory() as folder:
        ours.save_transformers(folder)
        theirs = WavLMModel.from_pretrained(folder).eval()
    wav = torch.randn(1, int(options.seconds * 16_000)) * 0.1
    with torch.inference_mode():
        want = theirs(wav, output_hidden_states=True).hidden_states[-1]
        got = ours(wav, layer=options.depth)
        print(f"largest difference, float32: {(want - got).abs().max():.2e} of values up to {want.abs().max():.1f}")
        hf32, our32 = seconds_of(lambda: theirs(wav), lambda: ours(wav, layer=options.depth))
        rows = [("transformers float32", hf32), ("ours float32", our32)]
        print(f"ours / transformers, float32: {hf32 / our32:.2f}x (goal 1.2x)")
        fast = fast_bfloat16(torch.device("cpu"))
        if options.bf16 == "yes" or (options.bf16 == "auto" and fast):
            theirs16, ours16 = theirs.bfloat16(), copy.deepcopy(ours).bfloat16()
            cosine = torch.cosine_similarity(ours16(wav, layer=options.depth).float(), got, dim=-1)
            wav16 = wav.bfloat16()
            hf16, our16 = seconds_of(lambda: theirs16(wav16), lambda: ours16(wav, layer=options.depth))
            rows += [("transformers bfloat16", hf16), ("ours bfloat16", our16)]
            print(f"ours / transformers, bfloat16: {hf16 / our16:.2f}x (goal 1.8x)")
            print(f"ours bfloat16 / transformers float32: {hf32 / our16:.2f}x (goal 3.5x where the CPU has bfloat16)")
            print(f"cosine of bfloat16 and float32 frames: mean {cosine.mean():.5f}, least {cosine.min():.5f}")
        if not fast:
            print(
                "this CPU has no bfloat16 arithmetic (AMX or AVX512-BF16): bfloat16 is emulated, and `auto` avoids it"
            )
        for name, taken in rows:
            print(f"  {name:24s} {taken:.3f} s  {options.seconds / taken:6.1f} x real time")

        extractor = Extractor(ours, options.depth, dtype="float32")
        lengths = (10, 30, 60)
        clips = [torch.randn(16_000 * length) * 0.1 for length in lengths]
        runs = [lambda clip=clip: extractor(clip) for clip in clips]
        for length, taken in zip(lengths, seconds_of(*runs, repeats=3), strict=True):
            print(f"  Extractor, {length:2d} s of audio: {taken:.2f} s, {10 * taken / length:.3f} s per 10 s")


if __name__ == "__main__":
    main()
