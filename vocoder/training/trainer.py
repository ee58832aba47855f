"""One training loop for every vocoder: spectral losses first, then a game against discriminators.

    step   0 ........ adversarial_from ............................. steps
           | mel loss |  mel loss + adversarial + feature matching  |

A step's segments follow from its number, and everything else that changes is in `state.pt`, so a training that was cut
off goes on as if it had not been: bit for bit on a CPU. The folder of a training:

    training.json   its settings          pack/, pack-valid/   the clips (see `vocoder.training.data`)
    state.pt        to go on from         model/               the averaged generator, for `from_pretrained`
    board/          for TensorBoard
"""

import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from vocoder.kinds import KINDS, load
from vocoder.mel import Mel
from vocoder.network import NeuralVocoder, fold, weight_norm
from vocoder.protocol import require
from vocoder.training.board import Board
from vocoder.training.data import Clip, Featurizer, Pack, Segment, Segments, batches, find_clips, made_by, make_pack
from vocoder.training.discriminators import judge_both
from vocoder.training.ema import average
from vocoder.training.losses import ADVERSARIAL, feature_matching
from vocoder.training.recipe import Jury, SpectralLoss, TrainConfig, mel_config, mel_loss, refuse_other_settings

log = logging.getLogger(__name__)


class Trainer:
    """A training in a folder.

    Args:
        config: how.
        folder: where it lives.
        featurize: makes the frames of `ssl` features, from (samples,) and their rate.
        reads: what makes the frames, where they are not mel.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: str | Path,
        featurize: Featurizer | None = None,
        reads: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.folder = config, Path(folder)
        # several processes on CPUs join only if they are told so
        self.accelerator = Accelerator(
            cpu=torch.accelerator.current_accelerator() is None, mixed_precision=config.precision
        )
        self.main = self.accelerator.is_main_process
        if config.batch % self.accelerator.num_processes:
            ranks = self.accelerator.num_processes
            raise ValueError(f"a batch of {config.batch} cannot be shared by {ranks} processes.")
        set_seed(config.seed)
        if not config.clips:
            raise ValueError("there is nothing to train on; set `clips` to a folder of sound files or a table of them.")
        clips = find_clips(config.clips, config.split)
        refuse_other_settings(config, self.folder)
        start = load(config.start_from).train() if config.start_from else None
        self.features = Mel(mel_config(config, start)) if config.features == "mel" else None
        self.reads = self.features.reads if self.features else dict(reads or made_by(clips[0]))
        generator = self._new_generator(start)
        self.segments, self.valid = self._packs(clips, generator, featurize)
        device = self.accelerator.device
        self.spectral = SpectralLoss(config, generator.sample_rate, generator.hop_length).to(device)
        self.game = ADVERSARIAL[config.adversarial]
        if self.features is not None:
            self.features.to(device)
        self.step = 0
        self.sides = {
            "generator": self.accelerator.prepare(generator),
            "jury": self.accelerator.prepare(Jury(config.discriminators)),
        }
        self.optimizers = {
            side: self.accelerator.prepare(
                torch.optim.AdamW(
                    network.parameters(), config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
                )
            )
            for side, network in self.sides.items()
        }
        self.averaged = {name: value.detach().clone() for name, value in self._bare().state_dict().items()}

    def _new_generator(self, start: NeuralVocoder | None) -> NeuralVocoder:
        kind, _ = KINDS[self.config.vocoder]
        if start is None:
            dim = {"dim": self.features.dim if self.features else self.reads.get("dim", 1)}
            generator = kind(self.config.generator_config(**dim, reads=self.reads))
        elif not isinstance(start, kind):
            raise ValueError(f"start_from holds a {start.config.kind}; vocoder is {self.config.vocoder!r}.")
        else:
            generator = start
            require(generator.reads, self.reads, f"what {self.config.start_from} is to go on with")
        rate, hop = (self.reads.get(name) for name in ("sample_rate", "hop_length"))
        if rate and hop and hop * generator.sample_rate != generator.hop_length * rate:
            raise ValueError(
                f"a frame of {hop} samples at {rate} Hz does not last as long as {generator.hop_length} samples at "
                f"{generator.sample_rate} Hz, which the vocoder makes of it; set the hop or the rates in `shape`."
            )
        if generator.trains_with_weight_norm:
            weight_norm(generator)
        return generator

    def _packs(
        self, clips: list[Clip], generator: NeuralVocoder, featurize: Featurizer | None
    ) -> tuple[Segments, Pack | None]:
        config = self.config

        def pack(clips: list[Clip], name: str, shortest: int) -> Pack:
            return make_pack(
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
        return Segments(train, config.segment, config.seed), valid

    def run(self, watch: Callable[[int, dict[str, float]], None] | None = None) -> None:
        """Train from where it is to the last step; `watch` is told of each step's losses."""
        config = self.config
        deadline = time.monotonic() + 60 * config.minutes if config.minutes else math.inf
        board = Board(self.folder / "board", self.step) if self.main else None
        ranks = self.accelerator.num_processes
        numbers = batches(self.step, config.steps, config.batch, self.accelerator.process_index, ranks)
        loader = DataLoader(self.segments, batch_sampler=numbers, num_workers=config.workers)
        for segment in loader:
            losses = self.learn(Segment(*(part.to(self.accelerator.device) for part in segment)))
            self.step += 1
            last = self.step == config.steps or self._all_agree(time.monotonic() > deadline)
            if watch is not None:
                watch(self.step, losses)
            if board and (self.step % config.log_every == 0 or last):
                board.scalars(self.step, losses, "train")
            if board and self.valid and (self.step % config.valid_every == 0 or last):
                log.info("step %d: validation mel distance %.4f", self.step, self.validate(board))
            if self.step % config.save_every == 0 or last:
                self.save()
            if last:
                break
        if board:
            board.close()

    def _all_agree(self, over: bool) -> bool:
        """Stop in all processes at the same step; asked now and then, since it makes them wait for each other."""
        if self.accelerator.num_processes == 1 or not self.config.minutes:
            return over
        votes = torch.tensor([over], device=self.accelerator.device)
        return self.step % 20 == 0 and bool(self.accelerator.gather(votes).any())

    def learn(self, segment: Segment) -> dict[str, float]:
        """Take one step, and give its losses (the mean of all processes')."""
        real, config = segment.wav, self.config  # what is random in a step follows from its number, too:
        torch.manual_seed(config.seed + self.accelerator.num_processes * self.step + self.accelerator.process_index)
        for group in (group for optimizer in self.optimizers.values() for group in optimizer.param_groups):
            group["lr"] = config.learning_rate_at(self.step)
        frames = segment.frames if self.features is None else self.features(real)
        if config.hidden:
            begin, end = config.hide
            frames[torch.rand(len(frames)) < config.hidden, :, begin:end] = 0
        fake = self.sides["generator"](frames).float()
        losses: dict[str, Tensor] = {}
        playing = self.step >= config.adversarial_from
        if playing:
            with self.accelerator.autocast():
                losses["discriminator"] = self.game.discriminator(*judge_both(self.sides["jury"], real, fake.detach()))
            self._update("jury", losses["discriminator"])
        losses |= self.spectral(real, fake)
        total = losses.pop("spectral")
        if playing:
            adversarial, matching = self._judged(real, fake)
            total = total + config.adversarial_weight * adversarial + config.feature_weight * matching
            losses |= {"adversarial": adversarial, "matching": matching}
        losses["generator"] = total
        self._update("generator", total)
        average(self.averaged, self._bare(), config.average, self.step)
        names, values = list(losses), torch.stack([value.detach().float() for value in losses.values()])
        return dict(zip(names, self.accelerator.reduce(values, "mean").tolist(), strict=True))

    def _judged(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """What the discriminators, as they are now, say of the generator's sound."""
        jury = self.accelerator.unwrap_model(self.sides["jury"]).requires_grad_(False)
        with self.accelerator.autocast():
            with torch.no_grad():
                real_judgements = jury(real)
            fake_judgements = jury(fake)
            judged = self.game.generator(fake_judgements), feature_matching(real_judgements, fake_judgements)
        jury.requires_grad_(True)
        return judged

    def _update(self, side: str, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            again = "go on from the last save" if (self.folder / "state.pt").is_file() else "begin again"
            raise ValueError(
                f"the {side}'s loss is {loss.item()} at step {self.step}; {again} in {self.folder} with a lower "
                "learning_rate, or with max_norm=1."
            )
        optimizer = self.optimizers[side]
        optimizer.zero_grad()
        self.accelerator.backward(loss)
        if self.config.max_norm:
            self.accelerator.clip_grad_norm_(self.sides[side].parameters(), self.config.max_norm)
        optimizer.step()

    def _bare(self) -> NeuralVocoder:
        bare: NeuralVocoder = self.accelerator.unwrap_model(self.sides["generator"])
        return bare

    def model(self) -> NeuralVocoder:
        """Give the averaged generator, ready for use."""
        bare = self._bare()
        model = type(bare)(bare.config).to(self.accelerator.device)
        if bare.trains_with_weight_norm:
            weight_norm(model)
        model.load_state_dict(self.averaged)
        fold(model)
        return model.eval()

    @torch.no_grad()
    def validate(self, board: Board | None = None, clips: int = 16, heard: int = 3) -> float:
        """Give the mean mel distance of the averaged generator's sound on whole clips, and show the first few."""
        assert self.valid is not None
        model, distances = self.model(), []
        compare = mel_loss(model.sample_rate, model.hop_length).to(self.accelerator.device)
        most = max(round(self.config.valid_seconds * model.sample_rate / model.hop_length), 1)
        for index in range(min(clips, len(self.valid.lengths))):
            frames, wav = (part[None].to(self.accelerator.device) for part in self.valid.clip(index))
            frames, wav = frames[:, :most], wav[:, : most * model.hop_length]
            made = model(frames if self.features is None else self.features(wav))
            distances.append(float(compare(wav, made)))
            if board and index < heard:
                board.sound(self.step, f"{index} {self.valid.names[index]}", wav[0], made[0], model.sample_rate)
        if board:
            board.scalars(self.step, {"mel": sum(distances) / len(distances)}, "valid")
        return sum(distances) / len(distances)

    def save(self) -> None:
        """Write the state to go on from, and the averaged generator; each is replaced whole."""
        self.accelerator.wait_for_everyone()
        if not self.main:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "generator": self._bare().state_dict(),
            "averaged": self.averaged,
            "jury": self.accelerator.unwrap_model(self.sides["jury"]).state_dict(),
            "optimizers": {side: optimizer.state_dict() for side, optimizer in self.optimizers.items()},
        }
        new = self.folder / ".new"
        model = self.model()
        (model.half() if self.config.half else model).save_pretrained(new / "model")
        torch.save(state, new / "state.pt")
        (new / "training.json").write_text(json.dumps(asdict(self.config), indent=1), encoding="utf-8")
        (self.folder / "model").mkdir(exist_ok=True)
        for file in sorted((new / "model").iterdir()):
            file.replace(self.folder / "model" / file.name)
        (new / "training.json").replace(self.folder / "training.json")
        (new / "state.pt").replace(self.folder / "state.pt")
        shutil.rmtree(new)

    def resume(self) -> None:
        """Go on from the folder's last save; a new training if there is none."""
        file = self.folder / "state.pt"
        if not file.is_file():
            return
        try:
            state = torch.load(file, map_location=self.accelerator.device, weights_only=True)
        except Exception as error:  # a broken zip, a truncated pickle
            raise ValueError(f"{file} cannot be read ({error}); begin in another folder.") from None
        self.step = state["step"]
        self._bare().load_state_dict(state["generator"])
        self.averaged = state["averaged"]
        self.accelerator.unwrap_model(self.sides["jury"]).load_state_dict(state["jury"])
        for side, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][side])
