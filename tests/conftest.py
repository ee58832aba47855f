import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # or torch's threads spin when the cores are shared: 10x slower

import pytest
import torch
from safetensors.torch import load_file

from ssl_vc.cli import main
from vocoder.pitch import track_pitch


@pytest.fixture(autouse=True)
def any_precision():
    """A process has one precision for all its trainings; a test must not choose that of the next."""
    yield
    state = getattr(sys.modules.get("accelerate.state"), "AcceleratorState", None)
    if state and state._shared_state.get("_mixed_precision", "no") != "no":
        state._reset_state()


GOLDEN = Path(os.environ.get("SSL_VC_GOLDEN") or Path(__file__).parent / "golden")
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture
def golden():
    """Load one golden case: `.config`, `.weights`, `.input` and `.output`, keyed as their files name them."""

    def load(name):
        parts = {"weights": {}, "input": {}, "output": {}}
        if (GOLDEN / f"{name}.safetensors").exists():
            for key, value in load_file(GOLDEN / f"{name}.safetensors").items():
                kind, rest = key.split(".", 1)
                parts[kind][rest] = value
        facts = GOLDEN / f"{name}.json"
        case = json.loads(facts.read_text()) if facts.exists() else {}
        return SimpleNamespace(config=case.get("config"), shapes=case.get("shapes"), **parts)

    return load


@pytest.fixture
def run(capsys):
    """Run a command as the shell would, and give (status, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return call


VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (300, 870, 2240),
    (530, 1840, 2480),
    (570, 840, 2410),
    (490, 1350, 1690),
)


@pytest.fixture(scope="session")
def speech():
    """Make speech-like sound (samples,) at 16 kHz: vowels, hissing and pauses, in an order that `text` decides."""

    def say(seconds=2.0, *, pitch=120.0, size=1.0, text=0):
        """A speaker is a pitch in Hz and a size; the same text has the same timing in all of them."""
        generator = torch.Generator().manual_seed(text)
        samples, step = round(seconds * 16_000), 1600
        sounds = torch.randint(len(VOWELS) + 2, (-(-samples // step) + 1,), generator=generator).tolist()
        sounds[0] = 0  # something is voiced
        glide = 1 + 0.1 * torch.sin(torch.arange(samples) / 16_000 * 3)
        pulses = torch.diff((pitch * glide / 16_000).cumsum(0).floor(), prepend=torch.zeros(1))
        noise = torch.randn(samples, generator=generator)
        wav = torch.zeros(samples)
        for kind in set(sounds):
            part = torch.tensor([sound == kind for sound in sounds]).float().repeat_interleave(step)[:samples]
            part = torch.nn.functional.avg_pool1d(part[None], 401, 1, 200)[0]  # 25 ms to come and go
            if kind < len(VOWELS):
                heard = torch.fft.rfft(pulses, n=samples + 4000)
                hertz = torch.linspace(0, 8000, len(heard))
                for at in VOWELS[kind]:
                    heard = heard / (1 - (hertz / (at * size)) ** 2 + 1j * hertz * (50 + at / 20) / (at * size) ** 2)
                vowel = torch.fft.irfft(heard, n=samples + 4000)[:samples]
                wav += part * vowel / vowel.abs().max()
            elif kind == len(VOWELS):
                wav += part * 0.05 * torch.diff(noise, prepend=torch.zeros(1))
        return 0.4 * wav / wav.abs().max()

    return say


@pytest.fixture(scope="session")
def median_pitch():
    """Measure the median F0 in Hz of a 16 kHz wav (samples,)."""

    def measure(wav):
        pitch = track_pitch(wav)
        return float(pitch[pitch > 0].median())

    return measure
