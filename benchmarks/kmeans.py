"""Seconds for the spherical k-means of one DeepCluster-v2 epoch, beside scikit-learn's KMeans.

    python benchmarks/kmeans.py --rows 60000 --width 128 --clusters 300 --threads 2

Both get the same rows, the same random rows as first centroids, and make the same number of
iterations, once for each of `--clusterings`; each line is the median of `--repeats` alternating
runs. scikit-learn's is Euclidean, which on the sphere differs in the length of the means only.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from raysl.methods.parts.kmeans import kmeans


def ours(rows: Tensor, initial: list[Tensor], num_iterations: int) -> None:
    for centroids in initial:
        generator = torch.Generator().manual_seed(0)
        _, labels = kmeans(
            rows,
            len(centroids),
            generator=generator,
            num_iterations=num_iterations,
            initial=centroids,
        )
        labels.sum().item()  # waits for the device


def scikit_learn(rows: Tensor, initial: list[Tensor], num_iterations: int) -> None:
    for centroids in initial:
        KMeans(
            len(centroids), init=centroids.cpu().numpy(), n_init=1, max_iter=num_iterations, tol=0
        ).fit(rows.cpu().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("rows", 60_000),
        ("width", 128),
        ("clusters", 300),
        ("clusterings", 3),
        ("iterations", 10),
        ("threads", torch.get_num_threads()),
        ("repeats", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)

    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(options.clusters, options.width, generator=draw)
    rows = centres[torch.randint(options.clusters, (options.rows,), generator=draw)]
    rows = F.normalize(rows + torch.randn(rows.shape, generator=draw), dim=1)
    orders = [torch.randperm(len(rows), generator=draw) for _ in range(options.clusterings)]
    rows = rows.to(options.device)
    initial = [rows[order[: options.clusters].to(rows.device)] for order in orders]

    runs: dict[str, Callable[[Tensor, list[Tensor], int], None]] = {
        "raysl": ours,
        "scikit-learn": scikit_learn,
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with threadpool_limits(options.threads):
        for _ in range(options.repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run(rows, initial, options.iterations)
                seconds[name].append(time.perf_counter() - start)
    print(
        f"{options.rows} x {options.width} rows, {options.clusterings} x {options.clusters} "
        f"clusters, {options.iterations} iterations, {options.threads} threads, {options.device}"
    )
    for name, times in seconds.items():
        print(f"{name:14}{statistics.median(times):8.2f} s")


if __name__ == "__main__":
    main()
