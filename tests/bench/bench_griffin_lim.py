"""Griffin-Lim against librosa's on sound files: spectral convergence (0 is best) and time, one run.

    python tests/bench/bench_griffin_lim.py CLIP [CLIP ...] [--iterations 32]

Both start from the same magnitudes (1024 samples, hop 320) with momentum .99; ours from phases along the peaks,
librosa's from random ones.
"""

import argparse
import time

import librosa
import torch

import ssl_vc
from vocoder.griffin_lim import griffin_lim
from vocoder.stft import stft


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--iterations", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(2)
    window, means = torch.hann_window(1024), []
    settings = {"n_iter": options.iterations, "hop_length": 320, "n_fft": 1024, "random_state": 0}
    for clip in options.clips:
        wav = ssl_vc.read(clip)[None]
        wanted = stft(wav, window, 320, "center", "constant").abs()
        runs = {
            "ours": lambda wanted=wanted: griffin_lim(
                wanted, 320, "center", iterations=options.iterations, pad_mode="constant"
            ),
            "librosa": lambda wanted=wanted: torch.from_numpy(librosa.griffinlim(wanted[0].T.numpy(), **settings))[
                None
            ],
        }
        row = []
        for run in runs.values():
            run()  # warms up
            start = time.perf_counter()
            made = run()[:, : wav.shape[1]]
            row.append(time.perf_counter() - start)
            heard = stft(made, window, 320, "center", "constant").abs()[:, : wanted.shape[1]]
            row.append(float((heard - wanted[:, : heard.shape[1]]).norm() / wanted.norm()))
        means.append(row)
        print(f"{clip}: ours {row[1]:.4f} in {row[0]:.2f} s, librosa {row[3]:.4f} in {row[2]:.2f} s")
    ours, us, theirs, them = torch.tensor(means).mean(0).tolist()
    print(f"mean: ours {us:.4f}, librosa {them:.4f} ({us / them:.2f} of it); {theirs / ours:.2f} times as fast")


if __name__ == "__main__":
    main()
