"""How the text model is learned: texts and recordings of a speaker or two, no more.

The folder of a training:

    letters.safetensors     how words are read           said/       frames of every clip, and what is known of them
    state.pt                to go on from                model/      for `TextToSpeech.from_pretrained`
"""

import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence

from ssl_vc.conversion.converter import VoiceConverter
from ssl_vc.files import replacing
from ssl_vc.tts.acoustic import Acoustic, AcousticConfig, Batch
from ssl_vc.tts.lessons import lessons_of, read_letters
from ssl_vc.tts.model import TextModel
from ssl_vc.tts.recipe import TTSConfig
from vocoder.training.ema import average

STATISTICS = 300  # clips that tell means and deviations
LENGTHS = 8  # lots that the sentences of as many steps are parted into by length; one of them makes a step


class Trainer:
    """Learns to speak; what it was at its last save is in the folder.

    Args:
        config: how.
        folder: where `learn_letters` and `make_said` put what is learned from.
    """

    def __init__(self, config: TTSConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        converter = VoiceConverter.from_pretrained(config.model, device="cpu")
        self.spec, self.reads = converter.extractor.spec, dict(converter.analysis.made_by)
        self.letters = read_letters(config, folder)
        self.speakers, self.lessons = lessons_of(config, folder, self.letters)
        some = self.lessons[:: max(len(self.lessons) // STATISTICS, 1)]
        rows = torch.cat([load_file(lesson.path)["rows"].float() for lesson in some])
        self.mean, self.deviation = rows.mean(0), rows.std(0).clamp(min=1e-3)
        torch.manual_seed(config.seed)
        shape = {**config.shape, "dim": rows.shape[1], "speakers": len(self.speakers)}
        self.accelerator = Accelerator(cpu=config.device == "cpu" or torch.accelerator.current_accelerator() is None)
        acoustic = Acoustic(AcousticConfig(**shape))
        self.optimizer = torch.optim.AdamW(acoustic.parameters(), config.learning_rate, betas=(0.9, 0.98))
        self.acoustic, self.optimizer = self.accelerator.prepare(acoustic, self.optimizer)
        there = self.accelerator.unwrap_model(self.acoustic).state_dict()  # on the device by now
        self.averaged = {name: value.detach().clone() for name, value in there.items()}
        self.step = 0

    def batch(self, step: int) -> Batch:
        """Give what a step learns from in this process; it follows from the step's number."""
        chance = random.Random(f"{self.config.seed} {step} {self.accelerator.process_index}")
        drawn = sorted(chance.choices(self.lessons, k=LENGTHS * self.config.batch), key=lambda lesson: lesson.frames)
        first = self.config.batch * chance.randrange(LENGTHS)
        chosen = drawn[first : first + self.config.batch]
        rows = [(load_file(each.path)["rows"].float() - self.mean) / self.deviation for each in chosen]
        symbols, begins = (
            pad_sequence([torch.tensor(each.sentence[part]) for each in chosen], batch_first=True) for part in (0, 1)
        )
        counts = torch.tensor([len(each.sentence.symbols) for each in chosen])
        lengths = torch.tensor([len(each) for each in rows])
        speakers = torch.tensor([each.speaker for each in chosen])
        whole = Batch(symbols, begins, counts, speakers, pad_sequence(rows, batch_first=True), lengths)
        return Batch(*(part.to(self.accelerator.device) for part in whole))

    def run(self) -> Iterator[dict[str, float]]:
        """Train to the last step; gives each step's losses."""
        config, begun = self.config, time.monotonic()
        while self.step < config.steps:
            torch.manual_seed(config.seed + self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(self.step)
            losses = self.acoustic(self.batch(self.step), config.cut)
            total = torch.stack(list(losses.values())).sum()
            if not torch.isfinite(total):
                raise ValueError(f"the loss is {total.item()} at step {self.step}; go on with a lower learning_rate.")
            self.optimizer.zero_grad()
            self.accelerator.backward(total)
            self.accelerator.clip_grad_norm_(self.acoustic.parameters(), 1.0)
            self.optimizer.step()
            average(self.averaged, self.accelerator.unwrap_model(self.acoustic), config.average, self.step)
            self.step += 1
            over = bool(config.minutes) and time.monotonic() - begun > 60 * config.minutes
            if self.step % config.save_every == 0 or self.step == config.steps or over:
                self.save()
            yield {name: float(value.detach()) for name, value in losses.items()}
            if over:
                return

    def _rate(self, step: int) -> float:
        """Rise for a twentieth of the steps, then fall as a cosine."""
        highest, steps = self.config.learning_rate, self.config.steps
        rise = max(steps // 20, 1)
        if step < rise:
            return highest * (step + 1) / rise
        return highest * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))

    def model(self) -> TextModel:
        """Give the averaged model."""
        bare = self.accelerator.unwrap_model(self.acoustic)
        acoustic = Acoustic(bare.config)
        acoustic.load_state_dict({name: value.cpu() for name, value in self.averaged.items()})
        return TextModel(acoustic, self.letters, self.speakers, self.mean, self.deviation, self.spec, self.reads)

    def save(self) -> None:
        """Write the state to go on from, and the averaged model."""
        if not self.accelerator.is_main_process:
            return
        bare = self.accelerator.unwrap_model(self.acoustic)
        state = {"step": self.step, "acoustic": bare.state_dict(), "averaged": self.averaged}
        state |= {"optimizer": self.optimizer.state_dict(), "config": asdict(self.config)}
        with replacing(self.folder / "state.pt") as part:
            torch.save(state, part)
        self.model().save(self.folder / "model")

    def resume(self) -> None:
        """Go on from the last save; a new training if there is none."""
        file = self.folder / "state.pt"
        if not file.is_file():
            return
        try:
            state: Mapping[str, Any] = torch.load(file, map_location=self.accelerator.device, weights_only=True)
        except Exception as error:  # a broken zip, a truncated pickle
            raise ValueError(f"{file} cannot be read ({error}); begin in another folder.") from None
        self.step = state["step"]
        self.accelerator.unwrap_model(self.acoustic).load_state_dict(state["acoustic"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
