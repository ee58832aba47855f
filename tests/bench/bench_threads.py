"""A batch with idle threads that sleep and that spin, with one thread and two, on free cores and on busy ones.

    python tests/bench/bench_threads.py [--seconds 60] [--rounds 3]

Each measurement is a process of its own, of which only the conversions are timed. The settings take turns in each
round, and the best of the rounds counts. Busy cores have one process each that computes all the time.
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

SAMPLES = Path(__file__).parents[2] / "demos" / "samples"
SETTINGS = [(policy, threads) for policy in ("ACTIVE", "PASSIVE") for threads in (1, 2)]


def convert(threads: int, seconds: float) -> None:
    """Convert clips of 1 to 8 s, and print the seconds that it took."""
    import torch

    import ssl_vc
    from ssl_vc.process import prepare_inference

    prepare_inference(threads)
    vc = ssl_vc.VoiceConverter.from_pretrained(device="cpu")
    voice = vc.enroll(SAMPLES / "emma.opus")
    wav = torch.cat([ssl_vc.read(SAMPLES / "bella.opus")] * (1 + int(seconds / 40)))[: round(seconds * 16_000)]
    lengths = [16_000 * (1 + number % 8) for number in range(len(wav))]
    start, position = time.perf_counter(), 0
    for length in lengths:
        if position >= len(wav):
            break
        vc.convert(wav[position : position + length], voice)
        position += length
    print(time.perf_counter() - start)


@contextmanager
def busy(cores: int):
    """Keep so many cores busy."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of sound")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        convert(options.only, options.seconds)
        return
    for cores in (0, os.cpu_count() or 1):
        best: dict[tuple[str, int], float] = {}
        with busy(cores):
            for _ in range(options.rounds):
                for policy, threads in SETTINGS:
                    command = [sys.executable, __file__, "--only", str(threads), "--seconds", str(options.seconds)]
                    output = subprocess.check_output(command, env=os.environ | {"OMP_WAIT_POLICY": policy})
                    best[policy, threads] = min(best.get((policy, threads), float("inf")), float(output))
        least = min(best.values())
        for (policy, threads), taken in best.items():
            print(
                f"{cores} cores busy, {policy:7} {threads} threads: {taken:6.2f} s for {options.seconds:g} s of sound, "
                f"{taken / least:.2f} of the best",
                flush=True,
            )


if __name__ == "__main__":
    main()
