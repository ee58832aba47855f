"""How much labels tell of phones (Hsu et al. 2021, arXiv 2106.07447, section III-C), and how evenly they are used.

Every frame counts, those of silence too; as silence is common and easily told apart, figures over other shares of it
must not be compared.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]


def quality(labels: Iterable[tuple[Numbers, Numbers]], clusters: int, symbols: int) -> dict[str, float]:
    """Compare labels with phones, frame by frame, silence included.

    Args:
        labels: of each clip the labels (frames,) and the phones (frames,).
        clusters: labels are below this.
        symbols: phones are below this.

    Returns:
        `phone_purity`: share of frames whose phone is the commonest one of their label (the accuracy of guessing it);
        `cluster_purity`: share whose label is the commonest one of their phone (it falls as clusters grow in number);
        `pnmi`: mutual information of phone and label over the entropy of the phone, 0 if there is but one phone;
        `phone_frames`: how many frames were compared.
    """
    joint = np.zeros(symbols * clusters, np.int64)
    for units, phones in labels:
        if units.shape != phones.shape:
            raise ValueError(f"a clip has labels {units.shape} but phones {phones.shape}; they are of other sounds.")
        joint += np.bincount(phones.astype(np.int64) * clusters + units, minlength=len(joint))
    table = joint.reshape(symbols, clusters)
    total = int(table.sum())
    if not total:
        raise ValueError("no frame has both a label and a phone; the phones are of other clips.")
    phone = entropy(table.sum(1))
    shared = phone + entropy(table.sum(0)) - entropy(table)
    return {
        "phone_purity": float(table.max(0).sum() / total),
        "cluster_purity": float(table.max(1).sum() / total),
        "pnmi": max(shared, 0.0) / phone if phone else 0.0,
        "phone_frames": total,
    }


def usage(counts: Numbers) -> dict[str, float]:
    """Tell how evenly clusters are used.

    Args:
        counts: how often each one is (clusters,).

    Returns:
        `used`, `dead`: how many clusters occur and how many do not; `perplexity`: how many equally common ones would
        be as hard to guess.
    """
    used = int(np.count_nonzero(counts))
    return {"used": used, "dead": len(counts) - used, "perplexity": float(np.exp(entropy(counts)))}


def entropy(counts: Numbers) -> float:
    """Give the entropy of a table of counts, in nats."""
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(share * np.log(share)).sum()) + 0.0
