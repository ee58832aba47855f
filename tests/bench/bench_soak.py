"""Ten users at the demo for an hour: its memory and its files must not grow.

    python tests/bench/bench_soak.py [--minutes 60] [--users 10] [--plot soak.svg]

Each user converts, enrols, speaks, sends what is no sound, cancels and leaves, at random. The demo keeps everything for
a fifth of the run here instead of an hour, and 20 sessions instead of 50, so that it deletes from early on.
"""

import argparse
import collections
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

import ssl_vc
from demos import app
from demos.studio import Studio
from ssl_vc.html.charts import lines_svg

SAMPLES = Path(app.__file__).parent / "samples"
ACTIONS = {"convert": 6, "save_voice": 2, "speak": 2, "bad_input": 3, "cancel": 2, "leave": 1}  # with their weights
GROWTH = 0.1  # of memory in the second half that counts as flat
ROOT = Path(app.__file__).parents[1]


def cleanup(seconds: float) -> tuple[int, int]:
    """Returns how often, and at which age in seconds, a run of this duration deletes files."""
    return max(2, round(seconds / 60)), max(10, round(seconds / 5))


def serve(port: int, seconds: float) -> None:
    """Run the demo, with all that it keeps scaled down to a run of this duration."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # it cleans up
    app.CLEANUP, app.MAX_SESSIONS = cleanup(seconds), 20
    studio = Studio(device="cpu", offline=True)
    studio.sessions.total_bytes = 32 << 20
    app.launch(studio, port=port)


class User:
    """A user who does one thing after another, in sessions of his own."""

    def __init__(self, address: str, folder: Path, seed: int) -> None:
        self.address, self.folder, self.random = address, folder, random.Random(seed)
        self.done: collections.Counter[str] = collections.Counter()
        self.client = self.new_client()

    def new_client(self) -> Client:
        return Client(self.address, verbose=False, httpx_kwargs={"timeout": 60})

    def run(self, end: float) -> None:
        """Act until a time."""
        while time.monotonic() < end:
            (action,) = self.random.choices(list(ACTIONS), list(ACTIONS.values()))
            try:
                getattr(self, action)()
                self.done[action] += 1
            except AppError as error:
                expected = action == "bad_input" or "Queue is full" in str(error)
                self.done["refused" if expected else f"failed: {action}: {error}"] += 1
            except Exception as error:
                if time.monotonic() < end:
                    self.done[f"failed: {action}: {error!r:.200}"] += 1
            time.sleep(self.random.uniform(0, 1))

    def clip(self, name: str, least: float, most: float) -> Any:
        """Returns an excerpt of a sample, which no other upload equals."""
        seconds = self.random.uniform(least, most)
        whole = ssl_vc.read(SAMPLES / name)
        start = self.random.randrange(len(whole) - round(most * 16_000))
        path = self.folder / f"{Path(name).stem}.wav"
        return handle_file(ssl_vc.write(path, whole[start : start + round(seconds * 16_000)], 16_000))

    def convert(self) -> None:
        self.client.predict(self.clip("source.flac", 1, 3), [self.clip("emma.opus", 5, 10)], api_name="/convert")

    def save_voice(self) -> None:
        self.client.predict([self.clip("emma.opus", 5, 20)], api_name="/save_voice")

    def speak(self) -> None:
        self.client.predict("Hello, world.", [self.clip("emma.opus", 5, 10)], api_name="/speak")

    def bad_input(self) -> None:
        path = self.folder / self.random.choice(("text.wav", "bad.voice", "half.webm"))
        path.write_bytes(self.random.randbytes(self.random.randrange(100_000)))
        self.client.predict(self.clip("source.flac", 1, 3), [handle_file(path)], api_name="/convert")

    def cancel(self) -> None:
        source, target = self.clip("source.flac", 2, 6), self.clip("emma.opus", 5, 10)
        job = self.client.submit(source, [target], api_name="/convert")
        time.sleep(self.random.uniform(0, 2))
        job.cancel()

    def leave(self) -> None:
        self.client.close()
        self.client = self.new_client()


def resident_mb(process: int) -> float:
    """Returns the resident memory of a process."""
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Sample(NamedTuple):
    """Minutes since the start, megabytes, the number of files, and the age of the oldest upload or result in s."""

    minute: float
    memory: float
    files: int
    oldest: float


def walk(folder: Path) -> set[Path]:
    return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}


def observe(process: "subprocess.Popen[bytes]", folder: Path, end: float) -> list[Sample]:
    """Returns samples until a time."""
    begun, samples = time.monotonic(), []
    own = walk(folder)
    while time.monotonic() < end and process.poll() is None:
        times = []
        for path in walk(folder) - own:
            with suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        oldest = time.time() - min(times, default=time.time())
        samples.append(Sample((time.monotonic() - begun) / 60, resident_mb(process.pid), len(times), oldest))
        time.sleep(max(1.0, (end - begun) / 300))
    return samples


def verdict(samples: Sequence[Sample], keep: float) -> str:
    """Returns what the second half shows: the slope of memory by least squares, and the age that files reach."""
    second = samples[len(samples) // 2 :]
    minutes, memory = [each.minute for each in second], [each.memory for each in second]
    slope, mean = float(np.polyfit(minutes, memory, 1)[0]), float(np.mean(memory))
    growth, oldest = slope * (minutes[-1] - minutes[0]) / mean, max(each.oldest for each in second)
    return (
        f"{'flat' if growth < GROWTH and oldest < keep else 'GROWS'}; in the second half RSS {mean:.0f} MB, "
        f"{60 * slope:+.0f} MB per hour ({growth:+.1%}; flat: below {GROWTH:.0%}); "
        f"{min(each.files for each in second)} to {max(each.files for each in second)} files, "
        f"none older than {oldest:.0f} s (flat: {keep:.0f} s)."
    )


def start_server(folder: Path, seconds: float) -> tuple["subprocess.Popen[bytes]", str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(port), "--minutes", str(seconds / 60)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    for _ in range(240):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.5)
    process.kill()
    raise SystemExit("the demo does not start")


def soak(minutes: float, count: int, plot: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        (kept := Path(name) / "kept").mkdir()
        process, address = start_server(kept, 60 * minutes)
        try:
            end, users = time.monotonic() + 60 * minutes, []
            for number in range(count):
                (folder := Path(name) / str(number)).mkdir()
                users.append(User(address, folder, number))
            threads = [threading.Thread(target=user.run, args=(end,), daemon=True) for user in users]
            for thread in threads:
                thread.start()
            samples = observe(process, kept, end)
            for thread in threads:
                thread.join(60)
        finally:
            process.terminate()
            process.wait(30)
        left = [path for path in kept.rglob("*") if path.is_file()]
    curves = {
        "RSS (MB)": [(each.minute, each.memory) for each in samples],
        "files": [(each.minute, float(each.files)) for each in samples],
    }
    plot.write_text(lines_svg(curves, f"{count} users at the demo", "minutes", ""), encoding="utf-8")
    for action, times_done in sorted(sum((user.done for user in users), collections.Counter()).items()):
        print(f"{times_done:5d} {action}")
    print(f"{len(left)} files left at the end\n{verdict(samples, sum(cleanup(60 * minutes)) + 30)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--users", type=int, default=10)
    parser.add_argument("--plot", type=Path, default=Path("soak.svg"))
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, 60 * options.minutes)
    else:
        soak(options.minutes, options.users, options.plot)


if __name__ == "__main__":
    main()
