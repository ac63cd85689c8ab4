"""Spherical k-means: k unit vectors and for each row the one with the highest cosine.

    assign:  label_i = argmax over k of x_i . c_k
    update:  c_k = normalised sum of the x_i with label k

Every worker holds all rows, sums over its share of them, and sends only sums and counts of the
clusters; so the centroids, and the labels that are joined at the end, are the same on all.
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from raysl.methods.parts.workers import num_workers, summed, worker_rank
from raysl.precision import full_precision

IGNORED = -100  # the label of a row of zeros; torch's cross entropy skips it
ROWS = 4096  # assigned at a time: more are no faster
NOISE = 0.01  # length of the step between the centroids of a split cluster


@torch.no_grad()
def kmeans(
    rows: Tensor,
    num_clusters: int,
    *,
    generator: Generator,
    num_iterations: int = 10,
    initial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Unit centroids [K, D] and labels int64 [N] of the rows [N, D], which are normalised first.

    Rows of zeros stand for what was never stored: they belong to no cluster. The first centroids
    are `initial` or random rows. A cluster that loses all rows gets a random other one's centroid
    plus a little noise, so that the two share its rows from the next assignment on (Caron et al.,
    ECCV 2018, section 3.3; as likely as the other is large). `generator` is on the CPU and in the
    same state on all workers. On a GPU sums are rounded differently from run to run.
    """
    with full_precision(rows):
        rows = F.normalize(rows, dim=1)
        own = rows[own_share()]
        seen = own.any(dim=1)
        first = _random_rows(rows, num_clusters, generator) if initial is None else initial
        centroids = F.normalize(first.to(rows), dim=1)
        stored = own[seen]
        for _ in range(num_iterations):
            centroids = _update(stored, centroids, generator)
        labels = torch.full((len(own),), IGNORED, device=rows.device)
        labels[seen] = nearest(stored, centroids)
        return centroids, joined(labels, len(rows))


def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """The centroid of the largest product for each row, int64 [N]; the first of equal ones."""
    if len(rows) == 0:
        return torch.zeros(0, dtype=torch.int64, device=rows.device)
    return torch.cat([(part @ centroids.T).argmax(dim=1) for part in rows.split(ROWS)])


def _update(rows: Tensor, centroids: Tensor, generator: Generator) -> Tensor:
    """Centroids after one assignment of this worker's rows and one update with all workers'."""
    num_clusters, width = centroids.shape
    sums = rows.new_zeros(num_clusters, width + 1)  # the last column counts
    sums.index_add_(0, nearest(rows, centroids), F.pad(rows, (0, 1), value=1.0))
    sums = summed(sums)
    counts = sums[:, -1]
    noise = torch.randn(num_clusters, width, generator=generator).to(rows)
    donors = torch.multinomial(counts.float().cpu(), num_clusters, True, generator=generator)
    means = F.normalize(sums[:, :-1], dim=1)
    halves = F.normalize(means[donors.to(rows.device)] + NOISE * F.normalize(noise, dim=1), dim=1)
    return torch.where((counts > 0)[:, None], means, halves)


def _random_rows(rows: Tensor, number: int, generator: Generator) -> Tensor:
    """Different rows that are not zero, as long as there are as many; then again the first."""
    seen = rows.any(dim=1).nonzero()[:, 0]
    assert len(seen), "k-means needs a row that is not zero"
    order = torch.randperm(len(seen), generator=generator)
    return rows[seen[order[torch.arange(number) % len(seen)].to(rows.device)]]


def own_share() -> slice:
    """The rows that this worker computes of those that all workers hold."""
    return slice(worker_rank(), None, num_workers())


def joined(values: Tensor, num_rows: int) -> Tensor:
    """What all workers computed of their `own_share`s, [num_rows], the same on all."""
    together = values.new_zeros(num_rows)
    together[own_share()] = values
    return summed(together)
