"""Sinkhorn-Knopp: from scores to assignments that use every prototype equally.

    repeat:  columns = columns / their sums over the joined batch;  rows = rows / their sums

Cuturi, "Sinkhorn Distances", NeurIPS 2013; as in Asano et al., ICLR 2020 (SeLa) and Caron et al.,
NeurIPS 2020 (SwAV), whose codes make the matrix sum to 1 first: that changes nothing, the first
step divides it out again.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from raysl.methods.parts.workers import num_workers
from raysl.precision import at_least_float32


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, num_iterations: int) -> Tensor:
    """Assignments [B, K] of the scores [B, K]: exp(scores / epsilon), made to balance.

    Rows sum to 1 exactly; columns approach (joined batch) / K with more iterations. Workers may
    have different numbers of rows, also none.

    The first iteration is made of logarithms: no score overflows, and no row or column vanishes,
    however small epsilon is. Later ones cannot lose any: a row or column then has a sum of at
    least 1 / (B K).
    """
    assert num_iterations >= 1
    logits = at_least_float32(scores) / epsilon
    logits = logits - _log_sums_of_columns(logits)
    assigned = logits.softmax(dim=1)
    for _ in range(num_iterations - 1):
        assigned = assigned / _joined(assigned.sum(dim=0))
        assigned = assigned / assigned.sum(dim=1, keepdim=True)
    return assigned


def _log_sums_of_columns(logits: Tensor) -> Tensor:
    """log of the sum of exp over the joined batch, [K]."""
    if len(logits):
        highest = logits.amax(dim=0)
    else:
        highest = logits.new_full((logits.shape[1],), float("-inf"))
    if num_workers() > 1:
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return _joined((logits - highest).exp().sum(dim=0)).log() + highest


def _joined(sums: Tensor) -> Tensor:
    if num_workers() > 1:
        dist.all_reduce(sums)
    return sums
