"""Endless training batches: of clips with random access, or of a stream of shards.

Both are functions of (index of the first batch, rank, world size).
"""

import logging
from collections.abc import Callable, Sequence

from torch.utils.data import DataLoader

from pretrain.data.batch import Batch, Collator, LabelSet
from pretrain.data.dataset import ClipDataset, ClipStream, batch_indices
from pretrain.data.manifest import Clip
from pretrain.data.pack import ClipAudio, subset
from pretrain.data.shards import Shards
from pretrain.training.config import TrainConfig

log = logging.getLogger(__name__)

Batches = Callable[[int, int, int], DataLoader[Batch]]


def indexed_batches(audio: ClipAudio, collate: Collator, config: TrainConfig, seed: int) -> Batches:
    """Return batches of clips with random access; batch n is the same wherever training resumes."""
    kept = usable_clips(audio, collate.labels, config.shortest)
    if collate.tokenize:
        _check_transcripts(kept.clips, collate.tokenize, config.longest)
    clips = ClipDataset(kept, collate, seed)
    plan = [clip.seconds for clip in kept.clips], config.seconds, config.longest, seed

    def batches(first: int, rank: int, world_size: int) -> DataLoader[Batch]:
        indices = batch_indices(*plan, first=first, rank=rank, world_size=world_size)
        return DataLoader(clips, sampler=indices, batch_size=None, num_workers=config.workers)

    return batches


def streamed_batches(source: str, collate: Collator, config: TrainConfig, seed: int) -> Batches:
    """Return batches from shards; a resumed training reads them in another order."""

    def batches(first: int, rank: int, world_size: int) -> DataLoader[Batch]:
        shards = Shards(source, seed=seed, rank=rank, world_size=world_size)
        seconds = config.seconds / world_size
        stream = ClipStream(shards, collate, seconds=seconds, shortest=config.shortest, seed=seed, first=first)
        return DataLoader(stream, batch_size=None, num_workers=config.workers)

    return batches


def usable_clips(audio: ClipAudio, labels: Sequence[LabelSet], shortest: float) -> ClipAudio:
    """Return the clips of at least `shortest` seconds that have labels."""
    long = [index for index, clip in enumerate(audio.clips) if clip.seconds >= shortest]
    kept = [index for index in long if all(audio.clips[index].key in of for of in labels)]
    if len(kept) < len(audio.clips):
        short, unlabelled = len(audio.clips) - len(long), len(long) - len(kept)
        log.warning("%d clips are shorter than %g s, and %d have no labels; not used", short, shortest, unlabelled)
    if not kept:
        raise ValueError(f"no clip has {shortest} s and labels; lower `shortest`, or make the labels again.")
    return subset(audio, kept)


def _check_transcripts(clips: list[Clip], tokenize: Callable[[Clip], list[int] | None], longest: float) -> None:
    """Log how many clips CTC learns from, and refuse none."""
    usable = sum(bool(clip.text and clip.seconds <= longest and tokenize(clip)) for clip in clips)
    log.info("%d of %d clips have a usable transcript and are not cropped", usable, len(clips))
    if not usable:
        raise ValueError("no uncropped clip has a usable transcript; set text.weight=0.")
