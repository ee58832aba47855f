"""One training loop for every vocoder: spectral losses first, then adversarial training.

    step   0 ........ adversarial_from ............................. steps
           | mel loss |  mel loss + adversarial + feature matching  |

The segments of a step follow from its number, and all other state is in `state.pt`, so a training that was interrupted
resumes exactly: bit for bit on a CPU. The folder of a training:

    training.json   its settings          pack/, pack-valid/   the clips (see `vocoder.training.data`)
    state.pt        the checkpoint        model/               the averaged generator, for `from_pretrained`
    board/          for TensorBoard
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from vocoder.kinds import load
from vocoder.mel import Mel
from vocoder.network import NeuralVocoder, apply_weight_norm, remove_weight_norm
from vocoder.training.data import (
    Clip,
    Featurizer,
    Pack,
    Segment,
    find_clips,
    pack_clips,
    stored_features,
)
from vocoder.training.discriminators import discriminate
from vocoder.training.loop import load_checkpoint, optimize, save_checkpoint, update_ema
from vocoder.training.losses import ADVERSARIAL, feature_matching, limit_bandwidth
from vocoder.training.recipe import (
    Discriminators,
    SpectralLoss,
    TrainConfig,
    check_resumable,
    mel_config,
    mel_loss,
    new_generator,
)
from vocoder.training.segments import SegmentDataset, batch_indices
from vocoder.training.tensorboard import TensorBoard

log = logging.getLogger(__name__)


class Trainer:
    """Trains a vocoder in a folder.

    Args:
        config: the settings.
        folder: of the training.
        featurize: extracts the frames of `ssl` features from (samples,) and their sample rate.
        reads: what the frames are, unless they are mel.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: str | Path,
        featurize: Featurizer | None = None,
        reads: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.folder = config, Path(folder)
        # `cpu` also makes several processes on CPUs join
        self.accelerator = Accelerator(
            cpu=torch.accelerator.current_accelerator() is None, mixed_precision=config.precision
        )
        self.is_main = self.accelerator.is_main_process
        if config.batch % self.accelerator.num_processes:
            ranks = self.accelerator.num_processes
            raise ValueError(f"a batch of {config.batch} cannot be split between {ranks} processes.")
        set_seed(config.seed)
        if not config.clips:
            raise ValueError("there is nothing to train on; set `clips` to a folder of audio files or a table of them.")
        clips = find_clips(config.clips, config.split)
        check_resumable(config, self.folder)
        start = load(config.start_from).train() if config.start_from else None
        self.features = Mel(mel_config(config, start)) if config.features == "mel" else None
        self.reads = self.features.reads if self.features else dict(reads or stored_features(clips[0]))
        dim = self.features.dim if self.features else self.reads.get("dim", 1)
        generator = new_generator(config, start, dim, self.reads)
        self.segments, self.valid = self._packs(clips, generator, featurize)
        device = self.accelerator.device
        self.spectral = SpectralLoss(config, generator.sample_rate, generator.hop_length).to(device)
        self.adversarial = ADVERSARIAL[config.adversarial]
        if self.features is not None:
            self.features.to(device)
        self.step = 0
        self.networks = {
            "generator": self.accelerator.prepare(generator),
            "discriminators": self.accelerator.prepare(Discriminators(config.discriminators)),
        }
        self.optimizers = {
            name: self.accelerator.prepare(
                torch.optim.AdamW(
                    network.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
                )
            )
            for name, network in self.networks.items()
        }
        self.average = {name: value.detach().clone() for name, value in self.generator.state_dict().items()}

    def _packs(
        self, clips: list[Clip], generator: NeuralVocoder, featurize: Featurizer | None
    ) -> tuple[SegmentDataset, Pack | None]:
        config = self.config

        def pack(clips: list[Clip], name: str, shortest: int) -> Pack:
            return pack_clips(
                clips,
                self.folder / name,
                sample_rate=generator.sample_rate,
                hop_length=generator.hop_length,
                shortest=shortest,
                featurize=featurize,
                reads=self.reads,
                keep=(self.folder / "state.pt").is_file(),
            )

        with self.accelerator.main_process_first():
            train, valid = pack(clips, "pack", config.segment), None
            if config.valid_clips:
                valid = pack(find_clips(config.valid_clips, config.valid_split), "pack-valid", 4)
        return SegmentDataset(train, config.segment, config.seed), valid

    def run(self, on_step: Callable[[int, dict[str, float]], None] | None = None) -> None:
        """Train from the current step to the last; `on_step` receives the number and the losses of each step."""
        config = self.config
        deadline = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
        board = TensorBoard(self.folder / "board", self.step) if self.is_main else None
        ranks = self.accelerator.num_processes
        indices = batch_indices(self.step, config.steps, config.batch, self.accelerator.process_index, ranks)
        for segment in DataLoader(self.segments, batch_sampler=indices, num_workers=config.workers):
            losses = self.train_step(Segment(*(part.to(self.accelerator.device) for part in segment)))
            self.step += 1
            last = self.step == config.steps or self._any_process(time.monotonic() > deadline)
            if on_step is not None:
                on_step(self.step, losses)
            if board and (self.step % config.log_every == 0 or last):
                board.add_scalars(self.step, losses, "train")
            if board and self.valid and (self.step % config.valid_every == 0 or last):
                log.info("step %d: validation mel loss %.4f", self.step, self.validate(board))
            if self.step % config.save_every == 0 or last:
                self.save()
            if last:
                break
        if board:
            board.close()

    def _any_process(self, over: bool) -> bool:
        """Stop all processes at the same step; checked every 20 steps, since it synchronises them."""
        if self.accelerator.num_processes == 1 or not self.config.minutes:
            return over
        votes = torch.tensor([over], device=self.accelerator.device)
        return self.step % 20 == 0 and bool(self.accelerator.gather(votes).any())

    def train_step(self, segment: Segment) -> dict[str, float]:
        """Take one step and return its losses, averaged over all processes."""
        real, config = segment.wav, self.config  # the random state, too, follows from the step:
        torch.manual_seed(config.seed + self.accelerator.num_processes * self.step + self.accelerator.process_index)
        frames = segment.frames if self.features is None else self.features(real)
        if config.hidden:
            start, stop = config.hide
            frames[torch.rand(len(frames)) < config.hidden, :, start:stop] = 0
        fake = self.networks["generator"](frames).float()
        rate = self.generator.sample_rate
        real, fake = (limit_bandwidth(wav, segment.bandwidth, rate) for wav in (real, fake))
        losses: dict[str, Tensor] = {}
        use_discriminators = self.step >= config.adversarial_from
        if use_discriminators:
            with self.accelerator.autocast():
                scores = discriminate(self.networks["discriminators"], real, fake.detach())
                losses["discriminator"] = self.adversarial.discriminator(*scores)
            self._optimize("discriminators", losses["discriminator"])
        losses |= self.spectral(real, fake)
        total = losses.pop("spectral")
        if use_discriminators:
            adversarial, matching = self._generator_losses(real, fake)
            total = total + config.adversarial_weight * adversarial + config.feature_weight * matching
            losses |= {"adversarial": adversarial, "matching": matching}
        losses["generator"] = total
        self._optimize("generator", total)
        update_ema(self.average, self.generator, config.average, self.step)
        values = torch.stack([value.detach().float() for value in losses.values()])
        return dict(zip(losses, self.accelerator.reduce(values, "mean").tolist(), strict=True))

    def _generator_losses(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the generator's adversarial and feature matching losses."""
        discriminators = self.discriminators.requires_grad_(False)
        with self.accelerator.autocast():
            with torch.no_grad():
                real_scores = discriminators(real)
            fake_scores = discriminators(fake)
            losses = self.adversarial.generator(fake_scores), feature_matching(real_scores, fake_scores)
        discriminators.requires_grad_(True)
        return losses

    def _optimize(self, name: str, loss: Tensor) -> None:
        network, optimizer = self.networks[name], self.optimizers[name]
        learning_rate, name = self.config.learning_rate_at(self.step), f"the loss of the {name} at step {self.step}"
        optimize(self.accelerator, network, optimizer, loss, learning_rate, self.config.max_norm, name)

    @property
    def generator(self) -> NeuralVocoder:
        """The generator, unwrapped."""
        generator: NeuralVocoder = self.accelerator.unwrap_model(self.networks["generator"])
        return generator

    @property
    def discriminators(self) -> Discriminators:
        """The discriminators, unwrapped."""
        discriminators: Discriminators = self.accelerator.unwrap_model(self.networks["discriminators"])
        return discriminators

    def averaged_model(self) -> NeuralVocoder:
        """Returns the averaged generator, in evaluation mode."""
        generator = self.generator
        model = type(generator)(generator.config).to(self.accelerator.device)
        if generator.trains_with_weight_norm:
            apply_weight_norm(model)
        model.load_state_dict(self.average)
        remove_weight_norm(model)
        return model.eval()

    @torch.no_grad()
    def validate(self, board: TensorBoard | None = None, clips: int = 16, logged: int = 3) -> float:
        """Returns the averaged generator's mean mel loss on whole clips, and logs the first few."""
        assert self.valid is not None
        model, losses = self.averaged_model(), []
        loss = mel_loss(model.sample_rate, model.hop_length).to(self.accelerator.device)
        longest = max(round(self.config.valid_seconds * model.sample_rate / model.hop_length), 1)
        for index in range(min(clips, len(self.valid.lengths))):
            frames, wav, bandwidth = (part[None].to(self.accelerator.device) for part in self.valid.clip(index))
            frames, wav = frames[:, :longest], wav[:, : longest * model.hop_length]
            generated = model(frames if self.features is None else self.features(wav))
            wav, generated = (limit_bandwidth(each, bandwidth, model.sample_rate) for each in (wav, generated))
            losses.append(float(loss(wav, generated)))
            if board and index < logged:
                name = f"{index} {self.valid.names[index]}"
                board.add_audio(self.step, name, wav[0], generated[0], model.sample_rate)
        if board:
            board.add_scalars(self.step, {"mel": sum(losses) / len(losses)}, "valid")
        return sum(losses) / len(losses)

    def save(self) -> None:
        """Write the checkpoint and the averaged generator, each file atomically."""
        self.accelerator.wait_for_everyone()
        if not self.is_main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "generator": self.generator.state_dict(),
            "averaged": self.average,
            "discriminators": self.discriminators.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }
        new = self.folder / ".new"
        model = self.averaged_model()
        (model.half() if self.config.half else model).save_pretrained(new / "model")
        save_checkpoint(state, new / "state.pt")
        (new / "training.json").write_text(json.dumps(asdict(self.config), indent=1), encoding="utf-8")
        (self.folder / "model").mkdir(exist_ok=True)
        for file in sorted((new / "model").iterdir()):
            file.replace(self.folder / "model" / file.name)
        (new / "training.json").replace(self.folder / "training.json")
        (new / "state.pt").replace(self.folder / "state.pt")
        with suppress(OSError):  # somebody keeps files in them
            (new / "model").rmdir()
            new.rmdir()

    def resume(self) -> None:
        """Load the folder's checkpoint, if any."""
        state = load_checkpoint(self.folder / "state.pt", self.accelerator.device)
        if not state:
            return
        for part in (state, state["optimizers"]):
            if "jury" in part:  # in older checkpoints
                part["discriminators"] = part.pop("jury")
        self.step, self.average = state["step"], state["averaged"]
        self.generator.load_state_dict(state["generator"])
        self.discriminators.load_state_dict(state["discriminators"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
