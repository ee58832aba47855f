"""Cold start: CPU seconds from nothing to a first converted clip, of this checkout and of others, taking turns.

    python tests/bench/bench_cold_start.py [CHECKOUT...] [--rounds 5]

Each start is a process with one thread; the medians of its steps are printed, those of other checkouts before ours.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parents[2]
SCRIPT = """
import sys, time
times = [time.process_time()]
def step():
    times.append(time.process_time())
import torch; step()
import ssl_vc; vc = ssl_vc.VoiceConverter.from_pretrained(device="cpu"); step()
voice = vc.enroll(sys.argv[2]); step()
wav = vc.convert(sys.argv[1], voice); step()
vc.convert(sys.argv[1], voice); step()
print(*(after - before for before, after in zip(times, times[1:])))
"""
STEPS = "import torch", "load the model", "enrol 41 s", "convert 6.6 s", "(once more)"


def start(checkout: Path) -> list[float]:
    """Return the CPU seconds of each step."""
    clips = [str(HERE / "demos" / "samples" / name) for name in ("source.flac", "emma.opus")]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    output = subprocess.check_output([sys.executable, "-c", SCRIPT, *clips], env=environment, cwd=checkout)
    return [float(value) for value in output.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    checkouts = [*options.checkouts, HERE]
    for checkout in checkouts:
        start(checkout)  # writes the bytecode
    runs = [[start(checkout) for checkout in checkouts] for _ in range(options.rounds)]
    medians = [[statistics.median(step) for step in zip(*kind, strict=True)] for kind in zip(*runs, strict=True)]
    for name, *values in zip(STEPS, *medians, strict=True):
        print(f"{name:16}", *(f"{value:6.2f} s" for value in values))
    print(f"{'all':16}", *(f"{sum(values[:-1]):6.2f} s" for values in medians))


if __name__ == "__main__":
    main()
