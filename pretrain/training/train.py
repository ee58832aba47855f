"""One training loop for every objective.

A step's batch, masks, and dropout follow from the step's number, and everything else that changes is in `state.pt`, so
a training that was cut off goes on as if it had not been: bit for bit on a CPU, unless the clock decides (`minutes`) or
the clips are a stream, which begins anew in another order.
Losses are sums divided by counts of the whole step, so processes and accumulation do not change the gradient. Folder:

    training.json   its settings        model/          the encoder, for `SpeechEncoder.from_pretrained`
    state.pt        to go on from       history.jsonl, board/    how it went
"""

import json
import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from pretrain.data.batch import Batch
from pretrain.data.dataset import Clips, Order, epoch_batches
from pretrain.encoder import SpeechEncoder
from pretrain.objectives.ctc import Ctc
from pretrain.objectives.protocol import Objective
from pretrain.recipe import TrainConfig
from pretrain.training import state
from pretrain.training.learner import Learner, Sums
from pretrain.training.record import Record

log = logging.getLogger(__name__)

RESTARTS = 3


class Trainer:
    """A training in a folder.

    Args:
        config: how.
        folder: where it lives.
        encoder: what learns; it is changed.
        objective: what it learns by.
        batches: gives the batches to learn from, without end: from the how manieth on, to which process of how many.
        valid: clips to validate on.
        speller: CTC beside the objective.
        seed: of dropout.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        encoder: SpeechEncoder,
        objective: Objective,
        batches: Callable[[int, int, int], Iterable[Batch]],
        valid: Clips | None = None,
        speller: Ctc | None = None,
        seed: int = 0,
    ) -> None:
        self.config, self.folder, self.batches, self.valid, self.seed = config, folder, batches, valid, seed
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # blocks may be left out of a step
        # several processes on CPUs join only if they are told so
        on_cpu = torch.accelerator.current_accelerator() is None
        AcceleratorState._reset_state()  # another iteration may compute in another precision
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision=self._precision(), kwargs_handlers=[unused])
        self.main, self.ranks = self.accelerator.is_main_process, self.accelerator.num_processes
        self.shape = encoder.config
        self.weights = {**objective.weights, "text": config.text.weight}
        learner = Learner(encoder.train(), objective.train(), speller, config.text.layer)
        self.model = self.accelerator.prepare(learner)
        self.optimizer = self.accelerator.prepare(
            torch.optim.AdamW(
                self.model.parameters(),
                config.learning_rate,
                betas=config.betas,
                eps=config.epsilon,
                weight_decay=config.weight_decay,
                fused=True,
            )
        )
        if config.ema and self.accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError("ema cannot be kept where FSDP divides the weights; set ema=0.")
        self.averaged = [p.detach().clone() for p in encoder.parameters()] if config.ema else []
        self.step, self.elapsed, self.slower = 0, 0.0, 1.0

    def _precision(self) -> str:
        if self.config.precision != "auto":
            return "bf16" if self.config.precision == "bf16" else "no"
        if torch.cuda.is_available():
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return "bf16" if any(check() for check in checks if check is not None) else "no"

    @property
    def progress(self) -> float:
        """How much of the training is done, 0 to 1, by steps or by the clock."""
        by_clock = self.elapsed / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(max(self.step / self.config.steps, by_clock), 1.0)

    def run(self, watch: Callable[[int, dict[str, float]], None] | None = None) -> None:
        """Train from where it is to the end; `watch` is told of each step's figures."""
        restarts, begun = 0, (self.folder / "state.pt").is_file()
        self.accelerator.wait_for_everyone()  # or a slow process would find what a quick one has saved meanwhile
        if not begun:
            self.save()  # something to fall back to
        while not self._run(watch):
            restarts += 1
            failed, elapsed, slower = self.step, self.elapsed, self.slower / 2
            if restarts > RESTARTS:
                raise ValueError(
                    f"the gradient was not finite {restarts} times, lastly at step {failed}; go on from {self.folder} "
                    "with a lower learning_rate or max_norm."
                )
            self.resume()
            self.elapsed, self.slower = elapsed, slower
            if self.main:
                log.warning(
                    "the gradient was not finite at step %d; going on from step %d at half the learning rate",
                    *(failed, self.step),
                )

    def _run(self, watch: Callable[[int, dict[str, float]], None] | None) -> bool:
        """Train to the end, or to a gradient that is not finite: then False."""
        config, record = self.config, Record(self.folder, self.step) if self.main else None
        mark, heard, took = time.monotonic(), 0.0, 0.0  # since the last report
        first = self.step * config.accumulate
        loader = iter(self.batches(first, self.accelerator.process_index, self.ranks))
        last = self.progress >= 1
        while not last:  # the clock may run out between steps, but the last one is saved as such
            batches = [batch.to(self.accelerator.device) for batch in islice(loader, config.accumulate)]
            figures = self.learn(batches)
            if figures is None:
                return False
            self.step += 1
            heard, took = heard + figures.pop("seconds"), took + time.monotonic() - mark
            figures["speed"] = heard / took  # seconds of sound a second
            self.elapsed = self._agreed(self.elapsed + time.monotonic() - mark)
            mark, last, reports = time.monotonic(), self.progress >= 1, self.step % config.log_every == 0
            if watch is not None:
                watch(self.step, figures)
            if record and (reports or last):
                record.write(self.step, figures, "train")
            if reports:
                heard, took = 0.0, 0.0
            if self.valid is not None and (self.step % config.valid_every == 0 or last):
                found = self.validate()
                if record:
                    record.write(self.step, found, "valid")
                    log.info(
                        "step %d: %s", self.step, ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                    )
            if self.step % config.save_every == 0 or last:
                self.save()
            self.elapsed, mark = self._agreed(self.elapsed + time.monotonic() - mark), time.monotonic()
        if record:
            record.close()
        return True

    def _agreed(self, seconds: float) -> float:
        """What the main process' clock says."""
        if self.ranks == 1 or not self.config.minutes:
            return seconds
        told = torch.tensor([seconds if self.main else 0.0], dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(told, "sum"))

    def learn(self, batches: list[Batch]) -> dict[str, float] | None:
        """Take one step, and give its figures, those of all processes; None if the gradient is not finite."""
        learner: Learner = self.accelerator.unwrap_model(self.model)
        rate = self.slower * self.config.learning_rate_at(max(self.progress, 0.5 / self.config.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(hash((self.seed, self.step)))
        parts = [learner.counts(batch) for batch in batches]
        counts = self._summed({name: sum(part[name] for part in parts) for name in parts[0]})
        seconds = self._summed({"seconds": sum(batch.seconds for batch in batches)})["seconds"]
        losses: dict[str, float] = dict.fromkeys(counts, 0.0)
        tallies: Sums = {}
        self.optimizer.zero_grad()
        for batch in batches:
            whole = batch is batches[-1]
            with nullcontext() if whole else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    sums, more = self.model(batch)
                    shares = {name: value / max(counts[name], 1.0) for name, value in sums.items()}
                    total = sum(self.weights[name] * share for name, share in shares.items())
                self.accelerator.backward(total * self.ranks)  # DDP takes the mean over processes
            losses = {name: losses[name] + float(share.detach()) for name, share in shares.items()}
            tallies = {name: tallies.get(name, 0) + tally for name, tally in more.items()}
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_norm or math.inf))
        if not math.isfinite(norm):
            return None
        self.optimizer.step()
        if self.averaged:
            keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.averaged, [p.detach() for p in learner.encoder.parameters()], 1 - keep)
        learner.objective.after_step(learner.encoder, self.step)
        figures = self._summed(losses) | learner.objective.figures(self._gathered(tallies))
        return {**figures, "gradient": norm, "learning_rate": rate, "seconds": seconds}

    def _summed(self, values: dict[str, float]) -> dict[str, float]:
        """Add up numbers over the processes."""
        if self.ranks == 1:
            return values
        told = torch.tensor(list(values.values()), dtype=torch.float64, device=self.accelerator.device)
        return dict(zip(values, self.accelerator.reduce(told, "sum").tolist(), strict=True))

    def _gathered(self, tallies: Sums) -> Sums:
        return {name: self.accelerator.reduce(tally, "sum") for name, tally in tallies.items()}

    def _valid_orders(self) -> list[Order]:
        """What this process validates on: as many batches as every other, so that none waits in vain."""
        assert self.valid is not None
        seconds = [clip.seconds for clip in self.valid.sounds.clips]
        batches = epoch_batches(seconds, self.config.seconds / self.ranks, self.config.longest, None)
        every = max(round(sum(seconds) / 60 / self.config.valid_minutes), 1)
        wanted = [Order(0, batch) for batch in batches[::every]]  # so both short and long ones
        if len(wanted) < self.ranks:
            return wanted
        return wanted[self.accelerator.process_index : len(wanted) // self.ranks * self.ranks : self.ranks]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Give losses and figures on clips that are not learned from, with always the same masks."""
        assert self.valid is not None
        learner: Learner = self.accelerator.unwrap_model(self.model)
        losses: dict[str, float] = {}
        counts: dict[str, float] = {}
        tallies: Sums = {}
        self.model.eval()
        for order in self._valid_orders():
            batch = self.valid[order].to(self.accelerator.device)
            with self.accelerator.autocast():
                sums, more = self.model(batch)
            for name, count in learner.counts(batch).items():
                counts[name] = counts.get(name, 0.0) + count
                losses[name] = losses.get(name, 0.0) + float(sums[name])
            tallies = {name: tallies.get(name, 0) + tally for name, tally in more.items()}
        self.model.train()
        losses, counts, tallies = self._summed(losses), self._summed(counts), self._gathered(tallies)
        found = {name: loss / max(counts[name], 1.0) for name, loss in losses.items()}
        if "text errors" in tallies:
            wrong, of = tallies["text errors"].tolist()
            found["text_error_rate"] = wrong / max(of, 1)
        return found | learner.objective.figures(tallies)

    def encoder(self) -> SpeechEncoder:
        """Give the encoder as it is kept: averaged, if averages are; on the CPU."""
        return self._encoder(state.gather(self.model, self.optimizer.optimizer)[0])

    def _encoder(self, weights: Sums) -> SpeechEncoder:
        made = SpeechEncoder(self.shape)
        made.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
        if self.averaged:
            with torch.no_grad():
                for parameter, value in zip(made.parameters(), self.averaged, strict=True):
                    parameter.copy_(value)
        return made.eval()

    def save(self) -> None:
        """Write the state to go on from, and the encoder; each is replaced whole."""
        weights, moments = state.gather(self.model, self.optimizer.optimizer)
        if self.main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._encoder(weights).save_pretrained(self.folder / ".model")
            (self.folder / "training.json").write_text(json.dumps(asdict(self.config), indent=1), encoding="utf-8")
            (self.folder / "model").mkdir(exist_ok=True)
            for file in sorted((self.folder / ".model").iterdir()):
                file.replace(self.folder / "model" / file.name)
            (self.folder / ".model").rmdir()
            also = {"step": self.step, "elapsed": self.elapsed, "slower": self.slower, "averaged": self.averaged}
            state.write(self.folder / "state.pt", {"weights": weights, "optimizer": moments, **also})
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from the folder's last save; a new training if there is none."""
        if not (self.folder / "state.pt").is_file():
            return
        also = state.read(self.folder / "state.pt", self.model, self.optimizer.optimizer)
        self.step, self.elapsed, self.slower = also["step"], also["elapsed"], also["slower"]
        for mine, saved in zip(self.averaged, also["averaged"], strict=True):
            mine.copy_(saved)
