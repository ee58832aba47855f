"""Validation: losses and metrics on held-out clips, and whether the encoder has collapsed.

A collapsed encoder maps all speech to nearly one point, or to few directions: the losses of methods with a teacher, or
with a quantiser of their own, may fall all the same. The effective rank of its frames (Roy and Vetterli, 2007) tells:
the exponential of the entropy of the eigenvalues of their covariance, each divided by their sum.
"""

import torch
from accelerate import Accelerator
from torch import Tensor

from pretrain.data.dataset import BatchIndex, ClipDataset, length_bucketed_batches
from pretrain.encoder.frontend import valid_frames
from pretrain.training.config import TrainConfig
from pretrain.training.model import PretrainModel, Sums

SEED = 0  # of random negatives and the like, the same in every validation
MIN_RANK, MIN_SPREAD = 2.0, 1e-3  # below either, the encoder has collapsed


@torch.no_grad()
def validate(
    accelerator: Accelerator, model: PretrainModel, valid: ClipDataset, config: TrainConfig, progress: float
) -> dict[str, float]:
    """Return losses and metrics on the validation clips, always with the same masks."""
    losses: dict[str, float] = {}
    counts: dict[str, float] = {}
    stats: Sums = {}
    model.eval()
    torch.manual_seed(SEED)
    for index in _batches(accelerator, valid, config):
        batch = valid[index].to(accelerator.device)
        with accelerator.autocast():
            sums, more, frames = model.outputs(batch, progress)
        more |= moments(frames, valid_frames(batch.counts, frames.shape[1]))
        for name, count in model.counts(batch).items():
            counts[name] = counts.get(name, 0.0) + count
            losses[name] = losses.get(name, 0.0) + float(sums[name])
        stats = {name: stats.get(name, 0) + stat for name, stat in more.items()}
    model.train()
    losses, counts = sum_over_ranks(accelerator, losses), sum_over_ranks(accelerator, counts)
    stats = gather_stats(accelerator, stats)
    found = {name: loss / max(counts[name], 1.0) for name, loss in losses.items()}
    if "text errors" in stats:
        wrong, of = stats["text errors"].tolist()
        found["text_error_rate"] = wrong / max(of, 1)
    return found | spread(stats) | model.objective.metrics(stats)


def moments(frames: Tensor, real: Tensor) -> Sums:
    """Return sufficient statistics of the covariance of the real frames (batch, frames, dim)."""
    frames = frames[real].float()
    return {
        "frame count": torch.tensor(len(frames), device=frames.device),
        "frame sums": frames.sum(0),
        "frame products": frames.T @ frames,
    }


def spread(stats: Sums) -> dict[str, float]:
    """Return the effective rank of the frames, and their standard deviation as a share of their root mean square."""
    if "frame count" not in stats:
        return {}
    mean, square = stats["frame sums"] / stats["frame count"], stats["frame products"] / stats["frame count"]
    eigenvalues = torch.linalg.eigvalsh((square - mean.outer(mean)).cpu()).clamp(min=0)
    share = eigenvalues / eigenvalues.sum().clamp(min=1e-30)
    return {
        "effective_rank": float(torch.special.entr(share).sum().exp()),
        "deviation": float((eigenvalues.sum() / square.trace().cpu().clamp(min=1e-30)).sqrt()),
    }


def refuse_collapse(found: dict[str, float], step: int) -> None:
    """Raise ValueError if the validation's frames are almost all the same."""
    rank, deviation = found.get("effective_rank", MIN_RANK), found.get("deviation", MIN_SPREAD)
    if rank < MIN_RANK or deviation < MIN_SPREAD:
        raise ValueError(
            f"the encoder has collapsed by step {step}: its frames are almost all the same (effective rank {rank:.2f}, "
            f"deviation {deviation:.2g} of their size); start again with a lower learning_rate or more regularisation."
        )


def sum_over_ranks(accelerator: Accelerator, values: dict[str, float]) -> dict[str, float]:
    """Sum numbers over the processes."""
    if accelerator.num_processes == 1:
        return values
    local = torch.tensor(list(values.values()), dtype=torch.float64, device=accelerator.device)
    return dict(zip(values, accelerator.reduce(local, "sum").tolist(), strict=True))


def gather_stats(accelerator: Accelerator, stats: Sums) -> Sums:
    """Sum tensors over the processes."""
    return {name: accelerator.reduce(stat, "sum") for name, stat in stats.items()}


def _batches(accelerator: Accelerator, valid: ClipDataset, config: TrainConfig) -> list[BatchIndex]:
    """Return this process's validation batches, as many as every other's so that all join each reduction."""
    world_size = accelerator.num_processes
    seconds = [clip.seconds for clip in valid.audio.clips]
    batches = length_bucketed_batches(seconds, config.seconds / world_size, config.longest, None)
    every = max(round(sum(seconds) / 60 / config.valid_minutes), 1)
    wanted = [BatchIndex(0, batch) for batch in batches[::every]]  # from short to long
    if len(wanted) < world_size:
        return wanted
    return wanted[accelerator.process_index : len(wanted) // world_size * world_size : world_size]
