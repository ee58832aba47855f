"""Phone purity, cluster purity and PNMI of labels (Hsu et al. 2021, arXiv 2106.07447, section III-C), and their usage.

Silent frames count. As they are frequent and easy to cluster, compare these metrics only at equal shares of silence.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]


def phone_metrics(labels: Iterable[tuple[Numbers, Numbers]], clusters: int, symbols: int) -> dict[str, float]:
    """Compare labels with phones, frame by frame, silence included.

    Args:
        labels: (labels, phones), (frames,) each, of each clip.
        clusters: number of labels.
        symbols: number of phones.

    Returns:
        `phone_purity`: accuracy of mapping each label to its most frequent phone;
        `cluster_purity`: accuracy of mapping each phone to its most frequent label, which falls with more clusters;
        `pnmi`: phone-normalised mutual information, 0 if there is only one phone;
        `phone_frames`: number of frames compared.
    """
    joint = np.zeros(symbols * clusters, np.int64)
    for units, phones in labels:
        if units.shape != phones.shape:
            raise ValueError(
                f"a clip has labels {units.shape} but phones {phones.shape}; they belong to different audio."
            )
        joint += np.bincount(phones.astype(np.int64) * clusters + units, minlength=len(joint))
    table = joint.reshape(symbols, clusters)
    total = int(table.sum())
    if not total:
        raise ValueError("no frame has both a label and a phone; the alignments are of other clips.")
    phone = entropy(table.sum(1))
    shared = phone + entropy(table.sum(0)) - entropy(table)
    return {
        "phone_purity": float(table.max(0).sum() / total),
        "cluster_purity": float(table.max(1).sum() / total),
        "pnmi": max(shared, 0.0) / phone if phone else 0.0,
        "phone_frames": total,
    }


def cluster_usage(counts: Numbers) -> dict[str, float]:
    """Measure how evenly clusters are used.

    Args:
        counts: frames of each cluster (clusters,).

    Returns:
        `used`, `dead`: number of clusters that occur, and that do not; `perplexity`: exp of the entropy, the effective
        number of clusters.
    """
    used = int(np.count_nonzero(counts))
    return {"used": used, "dead": len(counts) - used, "perplexity": float(np.exp(entropy(counts)))}


def entropy(counts: Numbers) -> float:
    """Return the entropy of a table of counts, in nats."""
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log(share)).sum()) + 0.0
