"""One training loop for every objective.

Batch, masks and dropout depend only on the step's number, and all other state is in the checkpoint. So a resumed
training equals an uninterrupted one, bit for bit on a CPU, unless it is limited by time (`minutes`) or reads shards,
which restart in another order. Losses are sums over the counts of the whole step, so neither the number of processes
nor accumulation changes the gradient. In the folder:

    training.json   settings            model/                   the encoder, for `SpeechEncoder.from_pretrained`
    state.pt        checkpoint          history.jsonl, board/    metrics
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
from pretrain.data.dataset import ClipDataset
from pretrain.encoder import SpeechEncoder
from pretrain.encoder.quantiser_file import write_quantiser
from pretrain.objectives.ctc import CtcHead
from pretrain.objectives.protocol import Objective
from pretrain.training import checkpoint
from pretrain.training.config import TrainConfig
from pretrain.training.metrics_log import MetricsLog
from pretrain.training.model import PretrainModel, Sums
from pretrain.training.validation import gather_stats, refuse_collapse, sum_over_ranks, validate

log = logging.getLogger(__name__)

MAX_RESTARTS = 3
CHECKPOINT = "state.pt"

OnStep = Callable[[int, dict[str, float]], None]  # a step's number and metrics


class Trainer:
    """Trains an encoder, in a folder.

    Args:
        config: the settings.
        folder: of checkpoints and logs.
        encoder: trained in place.
        objective: the pretraining loss.
        batches: returns endless training batches, given the index of the first one, the rank and the world size.
        valid: validation clips.
        ctc_head: an auxiliary CTC loss.
        seed: of dropout.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        encoder: SpeechEncoder,
        objective: Objective,
        batches: Callable[[int, int, int], Iterable[Batch]],
        valid: ClipDataset | None = None,
        ctc_head: CtcHead | None = None,
        seed: int = 0,
    ) -> None:
        self.config, self.folder, self.batches, self.valid, self.seed = config, folder, batches, valid, seed
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # LayerDrop skips blocks
        # without an explicit cpu=True, several processes on CPUs do not join
        on_cpu = torch.accelerator.current_accelerator() is None
        AcceleratorState._reset_state()  # another iteration may compute in another precision
        self.accelerator = Accelerator(cpu=on_cpu, mixed_precision=self._precision(), kwargs_handlers=[unused])
        self.is_main, self.world_size = self.accelerator.is_main_process, self.accelerator.num_processes
        self.shape = encoder.config
        self.weights = {**objective.weights, "text": config.text.weight}
        model = PretrainModel(encoder.train(), objective.train(), ctc_head, config.text.layer)
        self.model = self.accelerator.prepare(model)
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
            raise ValueError("ema does not work with FSDP, which shards the weights; set ema=0.")
        self.ema = [p.detach().clone() for p in encoder.parameters()] if config.ema else []
        if objective.batch_wide and (config.accumulate > 1 or self.world_size > 1):
            raise ValueError(f"{config.objective} compares whole batches; set accumulate=1, and use one process.")
        self.step, self.elapsed, self.lr_scale = 0, 0.0, 1.0

    def _precision(self) -> str:
        if self.config.precision != "auto":
            return "bf16" if self.config.precision == "bf16" else "no"
        if torch.cuda.is_available():
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
        checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
        return "bf16" if any(check() for check in checks if check is not None) else "no"

    @property
    def progress(self) -> float:
        """Fraction of the training that is done, by steps or by time, whichever is further."""
        by_time = self.elapsed / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(max(self.step / self.config.steps, by_time), 1.0)

    def run(self, on_step: OnStep | None = None) -> None:
        """Train to the end, restarting from the last checkpoint where the gradient is not finite."""
        restarts, resumed = 0, (self.folder / CHECKPOINT).is_file()
        self.accelerator.wait_for_everyone()  # or a slow process would see the checkpoint of a quick one
        if not resumed:
            self.save()  # a checkpoint to restart from
        while not self._run(on_step):
            restarts += 1
            failed, elapsed, lr_scale = self.step, self.elapsed, self.lr_scale / 2
            if restarts > MAX_RESTARTS:
                raise ValueError(
                    f"the gradient was not finite {restarts} times, last at step {failed}; resume {self.folder} with a "
                    "lower learning_rate or max_norm."
                )
            self.resume()
            self.elapsed, self.lr_scale = elapsed, lr_scale
            if self.is_main:
                log.warning(
                    "the gradient was not finite at step %d; restarting from step %d at half the learning rate",
                    *(failed, self.step),
                )

    def _run(self, on_step: OnStep | None) -> bool:
        """Train to the end; return False as soon as a gradient is not finite."""
        config, metrics_log = self.config, MetricsLog(self.folder, self.step) if self.is_main else None
        mark, speech, took = time.monotonic(), 0.0, 0.0  # seconds of speech, and of training, since the last report
        first = self.step * config.accumulate
        loader = iter(self.batches(first, self.accelerator.process_index, self.world_size))
        last = self.progress >= 1
        while not last:  # decided once per step, although time may run out in between: the last step must be saved
            batches = [batch.to(self.accelerator.device) for batch in islice(loader, config.accumulate)]
            metrics = self.train_step(batches)
            if metrics is None:
                return False
            self.step += 1
            speech, took = speech + metrics.pop("seconds"), took + time.monotonic() - mark
            metrics["speed"] = speech / took
            self.elapsed = self._synchronised(self.elapsed + time.monotonic() - mark)
            mark, last, reports = time.monotonic(), self.progress >= 1, self.step % config.log_every == 0
            if on_step is not None:
                on_step(self.step, metrics)
            if metrics_log and (reports or last):
                metrics_log.write(self.step, metrics, "train")
            if reports:
                speech, took = 0.0, 0.0
            if self.valid is not None and (self.step % config.valid_every == 0 or last):
                found = self.validate()
                if metrics_log:
                    metrics_log.write(self.step, found, "valid")
                    log.info(
                        "step %d: %s", self.step, ", ".join(f"{name} {value:.4g}" for name, value in found.items())
                    )
                refuse_collapse(found, self.step)
            if self.step % config.save_every == 0 or last:
                self.save()
            self.elapsed, mark = self._synchronised(self.elapsed + time.monotonic() - mark), time.monotonic()
        if metrics_log:
            metrics_log.close()
        return True

    def _synchronised(self, seconds: float) -> float:
        """Return the main process's time, on which all must agree."""
        if self.world_size == 1 or not self.config.minutes:
            return seconds
        local = torch.tensor([seconds if self.is_main else 0.0], dtype=torch.float64, device=self.accelerator.device)
        return float(self.accelerator.reduce(local, "sum"))

    def train_step(self, batches: list[Batch]) -> dict[str, float] | None:
        """Take one step and return its metrics over all processes; None if the gradient is not finite."""
        model: PretrainModel = self.accelerator.unwrap_model(self.model)
        rate = self.lr_scale * self.config.learning_rate_at(max(self.progress, 0.5 / self.config.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        rank = self.accelerator.process_index
        torch.manual_seed(hash((self.seed, self.step, rank) if rank else (self.seed, self.step)))
        parts = [model.counts(batch) for batch in batches]
        counts = sum_over_ranks(self.accelerator, {name: sum(part[name] for part in parts) for name in parts[0]})
        seconds = sum_over_ranks(self.accelerator, {"seconds": sum(batch.seconds for batch in batches)})["seconds"]
        losses: dict[str, float] = dict.fromkeys(counts, 0.0)
        stats: Sums = {}
        self.optimizer.zero_grad()
        for batch in batches:
            last = batch is batches[-1]
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                with self.accelerator.autocast():
                    sums, more = self.model(batch, self.progress)
                    shares = {name: value / max(counts[name], 1.0) for name, value in sums.items()}
                    total = sum(self.weights[name] * share for name, share in shares.items())
                self.accelerator.backward(total * self.world_size)  # DDP averages over processes
            losses = {name: losses[name] + float(share.detach()) for name, share in shares.items()}
            stats = {name: stats.get(name, 0) + stat for name, stat in more.items()}
        norm = float(self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.max_norm or math.inf))
        if not math.isfinite(norm):
            return None
        self.optimizer.step()
        if self.ema:
            keep = min(self.config.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.ema, [p.detach() for p in model.encoder.parameters()], 1 - keep)
        stats = gather_stats(self.accelerator, stats)
        model.objective.after_step(model.encoder, self.step, self.progress, stats)
        metrics = sum_over_ranks(self.accelerator, losses) | model.objective.metrics(stats)
        return {**metrics, "gradient": norm, "learning_rate": rate, "seconds": seconds}

    def validate(self) -> dict[str, float]:
        """Return losses and metrics on the validation clips, always with the same masks."""
        assert self.valid is not None
        model = self.accelerator.unwrap_model(self.model)
        return validate(self.accelerator, model, self.valid, self.config, self.progress)

    def encoder(self) -> SpeechEncoder:
        """Return the encoder to keep, on the CPU: its exponential moving average, if there is one."""
        return self._encoder(checkpoint.gather(self.model, self.optimizer.optimizer)[0])

    def _encoder(self, weights: Sums) -> SpeechEncoder:
        encoder = SpeechEncoder(self.shape)
        encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in weights.items() if k.startswith("encoder.")})
        if self.ema:
            with torch.no_grad():
                for parameter, value in zip(encoder.parameters(), self.ema, strict=True):
                    parameter.copy_(value)
        return encoder.eval()

    def save(self) -> None:
        """Write the checkpoint and the encoder; each file is replaced atomically."""
        weights, optimizer_state = checkpoint.gather(self.model, self.optimizer.optimizer)
        if self.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            encoder = self._encoder(weights)
            encoder.save_pretrained(self.folder / ".model")
            self._save_quantiser(weights | {f"encoder.{name}": value for name, value in encoder.state_dict().items()})
            (self.folder / "training.json").write_text(json.dumps(asdict(self.config), indent=1), encoding="utf-8")
            (self.folder / "model").mkdir(exist_ok=True)
            for file in sorted((self.folder / ".model").iterdir()):
                file.replace(self.folder / "model" / file.name)
            (self.folder / ".model").rmdir()
            rest = {"step": self.step, "elapsed": self.elapsed, "lr_scale": self.lr_scale, "ema": self.ema}
            checkpoint.save(self.folder / CHECKPOINT, {"weights": weights, "optimizer": optimizer_state, **rest})
        self.accelerator.wait_for_everyone()

    def _save_quantiser(self, weights: Sums) -> None:
        """Write the objective's quantiser beside the encoder, if it has one."""
        model: PretrainModel = self.accelerator.unwrap_model(self.model)
        modules = tuple(f"{name}." for name in model.objective.exported)
        kept = {name.partition(".")[2]: value for name, value in weights.items() if name.startswith(modules)}
        if modules:
            write_quantiser(kept, self.folder / ".model")

    def resume(self) -> None:
        """Load the folder's checkpoint, if there is one."""
        if not (self.folder / CHECKPOINT).is_file():
            return
        rest = checkpoint.load(self.folder / CHECKPOINT, self.model, self.optimizer.optimizer)
        self.step, self.elapsed, self.lr_scale = rest["step"], rest["elapsed"], rest["lr_scale"]
        for parameter, saved in zip(self.ema, rest["ema"], strict=True):
            parameter.copy_(saved)
