"""Training of the acoustic model, on the transcribed speech of one speaker or more.

The folder of a training:

    letters.safetensors     the G2P model                rows/       targets of every clip, statistics of the speakers
    state.pt                the checkpoint               model/      for `TextToSpeech.from_pretrained`
"""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.files import replacing
from ssl_vc.tts.acoustic import AcousticConfig, AcousticModel, Batch, rename_layers
from ssl_vc.tts.dataset import Example, load_dataset, load_g2p
from ssl_vc.tts.model import TextModel
from ssl_vc.tts.recipe import TTSConfig
from vocoder.training.loop import load_checkpoint, optimize, save_checkpoint, update_ema

MAX_NORM = 1.0  # of gradients
STATISTICS_CLIPS = 300  # for mean and deviation of the rows
BUCKETS = 8  # of similar length, drawn together; one of them makes a batch


class Trainer:
    """Trains an acoustic model; checkpoints go to the folder.

    Args:
        config: settings.
        folder: where `train_g2p` and `extract_rows` wrote.
    """

    def __init__(self, config: TTSConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        converter = VoiceConverter.from_pretrained(config.model, device="cpu")
        self.spec, self.reads = converter.extractor.spec, dict(converter.analysis.feature_spec)
        self.g2p = load_g2p(config, folder)
        self.speakers, self.examples = load_dataset(config, folder, self.g2p)
        self.mean, self.deviation = _statistics(self.examples)
        torch.manual_seed(config.seed)
        shape = {**config.shape, "dim": len(self.mean), "speakers": len(self.speakers)}
        self.accelerator = Accelerator(cpu=config.device == "cpu" or torch.accelerator.current_accelerator() is None)
        acoustic = AcousticModel(AcousticConfig(**shape))
        self.optimizer = torch.optim.AdamW(acoustic.parameters(), config.learning_rate, betas=(0.9, 0.98))
        self.acoustic, self.optimizer = self.accelerator.prepare(acoustic, self.optimizer)
        weights = self.accelerator.unwrap_model(self.acoustic).state_dict()  # on the device by now
        self.averaged = {name: value.detach().clone() for name, value in weights.items()}
        self.step = 0

    def batch(self, step: int) -> Batch:
        """Return this process's batch of a step; it depends on nothing but seed and step."""
        rng = random.Random(f"{self.config.seed} {step} {self.accelerator.process_index}")
        drawn = sorted(rng.choices(self.examples, k=BUCKETS * self.config.batch), key=lambda example: example.frames)
        first = self.config.batch * rng.randrange(BUCKETS)
        chosen = drawn[first : first + self.config.batch]
        rows = [(load_file(each.path)["rows"].float() - self.mean) / self.deviation for each in chosen]
        symbols, word_starts = (
            pad_sequence([torch.tensor(each.sentence[part]) for each in chosen], batch_first=True) for part in (0, 1)
        )
        batch = Batch(
            symbols,
            word_starts,
            torch.tensor([len(each.sentence.symbols) for each in chosen]),
            torch.tensor([each.speaker for each in chosen]),
            pad_sequence(rows, batch_first=True),
            torch.tensor([len(each) for each in rows]),
        )
        return Batch(*(part.to(self.accelerator.device) for part in batch))

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the last step, and yield the losses of each step."""
        config, started = self.config, time.monotonic()
        while self.step < config.steps:
            losses = self._train_step()
            time_is_up = bool(config.minutes) and time.monotonic() - started > 60 * config.minutes
            if self.step % config.save_every == 0 or self.step == config.steps or time_is_up:
                self.save()
            yield {name: float(value.detach()) for name, value in losses.items()}
            if time_is_up:
                return

    def _train_step(self) -> dict[str, Tensor]:
        torch.manual_seed(self.config.seed + self.step)
        losses: dict[str, Tensor] = self.acoustic(self.batch(self.step), self.config.segment)
        total = torch.stack(list(losses.values())).sum()
        rate, name = self._learning_rate(self.step), f"the loss at step {self.step}"
        optimize(self.accelerator, self.acoustic, self.optimizer, total, rate, MAX_NORM, name)
        update_ema(self.averaged, self.accelerator.unwrap_model(self.acoustic), self.config.average, self.step)
        self.step += 1
        return losses

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up for a twentieth of the steps, then cosine decay."""
        peak, steps = self.config.learning_rate, self.config.steps
        warmup = max(steps // 20, 1)
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1)))

    def model(self) -> TextModel:
        """Return the model with averaged weights."""
        acoustic = AcousticModel(self.accelerator.unwrap_model(self.acoustic).config)
        acoustic.load_state_dict({name: value.cpu() for name, value in self.averaged.items()})
        return TextModel(acoustic, self.g2p, self.speakers, self.mean, self.deviation, self.spec, self.reads)

    def save(self) -> None:
        """Write the checkpoint and the averaged model."""
        if not self.accelerator.is_main_process:
            return
        acoustic = self.accelerator.unwrap_model(self.acoustic)
        state = {"step": self.step, "acoustic": acoustic.state_dict(), "averaged": self.averaged}
        state |= {"optimizer": self.optimizer.state_dict(), "config": asdict(self.config)}
        with replacing(self.folder / "state.pt") as part:
            save_checkpoint(state, part)
        self.model().save(self.folder / "model")

    def resume(self) -> None:
        """Load the last checkpoint, if there is one."""
        state = load_checkpoint(self.folder / "state.pt", self.accelerator.device)
        if not state:
            return
        self.step = state["step"]
        self.accelerator.unwrap_model(self.acoustic).load_state_dict(rename_layers(state["acoustic"]))
        self.averaged = rename_layers(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])


def _statistics(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (dim,) of the rows of some clips."""
    some = examples[:: max(len(examples) // STATISTICS_CLIPS, 1)]
    rows = torch.cat([load_file(example.path)["rows"].float() for example in some])
    return rows.mean(0), rows.std(0).clamp(min=1e-3)
