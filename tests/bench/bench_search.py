"""Nearest neighbours: ours against the full matrix in float32, and against faiss, in one run; time, neighbours, memory.

    python tests/bench/bench_search.py [--large 300000]

The full matrix is made in two ways: as kNN-VC does (norms and `torch.cdist`), and as a product of normalised frames.
Memory is what a process of its own needs beyond its inputs, whole or in our pieces.
"""

import argparse
import os
import subprocess
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor

from ssl_vc.evaluate.cost import measured
from ssl_vc.match.search import Search

K, DIM, ROUNDS = 4, 1024, 5


def frames(count: int, seed: int) -> Tensor:
    """Clusters off the origin, in which the nearest frames stand close together."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(300, DIM, generator=torch.Generator().manual_seed(0))
    made = torch.randn(count, DIM, generator=generator).mul_(0.7).add_(0.3)
    chosen = torch.randint(300, (count,), generator=generator)
    for block, which in zip(made.split(4096), chosen.split(4096), strict=True):
        block += centres[which]
    return made


def by_cdist(query: Tensor, pool: Tensor) -> Tensor:
    """Full matrix of cosine distances as kNN-VC makes it."""
    of_query, of_pool = query.norm(dim=1), pool.norm(dim=1)
    dots = (of_query[:, None] ** 2 + of_pool[None] ** 2 - torch.cdist(query[None], pool[None])[0] ** 2) / 2
    return (1 - dots / (of_query[:, None] * of_pool[None])).topk(K, largest=False).indices


def by_product(query: Tensor, pool: Tensor) -> Tensor:
    """Full matrix of cosines of normalised frames."""
    query, pool = (torch.nn.functional.normalize(rows, dim=1) for rows in (query, pool))
    return (query @ pool.T).topk(K).indices


def ours(query: Tensor, pool: Tensor) -> Tensor:
    """Search, with all that it prepares."""
    return Search(pool)(query, K).index


WAYS = {"full matrix, cdist": by_cdist, "full matrix, product": by_product, "ours": ours}


def memory(name: str, queries: int, count: int) -> None:
    """Print what one way needs beyond its inputs, in MB."""
    query, pool = frames(queries, 1), frames(count, 2)
    with measured() as cost:
        WAYS[name](query, pool)
    print((cost.added_bytes or 0) / 1e6)


def fastest(ways: dict[str, object]) -> dict[str, float]:
    """Give the best time of each, taking turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()  # type: ignore[operator]
            times[name].append(time.perf_counter() - start)
    return {name: min(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=300_000, help="frames of the large pool; 0 leaves it out")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, 1500, 15_000)
        return
    query, pool = frames(1500, 1), frames(15_000, 2)
    search = Search(pool)
    print(f"1500 x 15000 x {DIM}, k {K}, candidates by {search.coarse}")
    ways = {name: lambda way=way: way(query, pool) for name, way in WAYS.items()}
    times = fastest({**ways, "ours, prepared": lambda: search(query, K)})
    wanted = by_product(query.double(), pool.double())
    for name, taken in times.items():
        same = WAYS[name](query, pool) if name in WAYS else search(query, K).index
        added = float(subprocess.check_output([sys.executable, __file__, "--memory", name])) if name in WAYS else None
        text = "" if added is None else f"{added:6.0f} MB beyond the inputs, "
        share = float((same == wanted).float().mean())
        print(f"{name:22} {taken:6.3f} s, {text}{share:.4%} of the neighbours are those of float64")
    if not options.large:
        return
    try:
        import faiss
    except ImportError:
        print("faiss is not installed; the large pool is left out")
        return
    faiss.omp_set_num_threads(torch.get_num_threads())
    query, pool = frames(500, 1), frames(options.large, 2)
    flat = faiss.IndexFlatIP(DIM)
    for block in pool.split(4096):
        flat.add(torch.nn.functional.normalize(block, dim=1).numpy())
    normalized = torch.nn.functional.normalize(query, dim=1).numpy()
    search = Search(pool)
    print(f"500 x {options.large} x {DIM}, both prepared")
    times = fastest({"faiss IndexFlatIP": lambda: flat.search(normalized, K), "ours": lambda: search(query, K)})
    same = torch.from_numpy(flat.search(normalized, K)[1]) == search(query, K).index
    for name, taken in times.items():
        print(f"{name:22} {taken:6.3f} s, {times['faiss IndexFlatIP'] / taken:5.2f} x")
    print(f"{float(same.float().mean()):.4%} of the neighbours are the same")


if __name__ == "__main__":
    main()
