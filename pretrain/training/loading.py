"""The batches that a training learns from, without end: of clips that are asked for by number, or of a stream of them.

Both are given as functions of (from the how manieth on, to which process, of how many).
"""

import logging
from collections.abc import Callable, Sequence

from torch.utils.data import DataLoader

from pretrain.data.batch import Batch, LabelSet, Maker
from pretrain.data.dataset import Clips, Stream, orders
from pretrain.data.manifest import Clip
from pretrain.data.pack import Sounds, some
from pretrain.data.shards import Shards
from pretrain.recipe import TrainConfig

log = logging.getLogger(__name__)

Batches = Callable[[int, int, int], DataLoader[Batch]]


def asked(sounds: Sounds, make: Maker, config: TrainConfig, seed: int) -> Batches:
    """Give batches of clips that can be read by number; the same from any number on, in every process."""
    kept = usable(sounds, make.labels, config.shortest)
    if make.spell:
        _count_spelled(kept.clips, make.spell, config.longest)
    clips = Clips(kept, make, seed)
    plan = [clip.seconds for clip in kept.clips], config.seconds, config.longest, seed

    def batches(first: int, rank: int, ranks: int) -> DataLoader[Batch]:
        wanted = orders(*plan, first=first, rank=rank, ranks=ranks)
        return DataLoader(clips, sampler=wanted, batch_size=None, num_workers=config.workers)

    return batches


def streamed(source: str, make: Maker, config: TrainConfig, seed: int) -> Batches:
    """Give batches out of shards; whoever begins later begins with another order."""

    def batches(first: int, rank: int, ranks: int) -> DataLoader[Batch]:
        shards = Shards(source, seed=seed, rank=rank, ranks=ranks)
        each = config.seconds / ranks
        stream = Stream(shards, make, seconds=each, shortest=config.shortest, seed=seed, first=first)
        return DataLoader(stream, batch_size=None, num_workers=config.workers)

    return batches


def usable(sounds: Sounds, labels: Sequence[LabelSet], shortest: float) -> Sounds:
    """Leave out clips that are too short to learn from, or have no labels."""
    long = [index for index, clip in enumerate(sounds.clips) if clip.seconds >= shortest]
    kept = [index for index in long if all(sounds.clips[index].key in of for of in labels)]
    if len(kept) < len(sounds.clips):
        short, unlabelled = len(sounds.clips) - len(long), len(long) - len(kept)
        log.warning("%d clips are shorter than %g s, and %d have no labels; not used", short, shortest, unlabelled)
    if not kept:
        raise ValueError(f"no clip has {shortest} s and labels; set a smaller `shortest`, or make the labels again.")
    return some(sounds, kept)


def _count_spelled(clips: list[Clip], spell: Callable[[Clip], list[int] | None], longest: float) -> None:
    """Say how many clips CTC learns from; refuse to learn from none."""
    spelled = sum(bool(clip.text and clip.seconds <= longest and spell(clip)) for clip in clips)
    log.info("%d of %d clips have a text that can be spelled, and are not cropped", spelled, len(clips))
    if not spelled:
        raise ValueError("no clip has a text that can be spelled, and is not cropped; set text.weight=0.")
