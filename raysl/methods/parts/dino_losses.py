"""DINO's loss between views, iBOT's on hidden patches, and KoLeo, which spreads features.

Each is tested against its equation; the method files name the papers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.methods.parts.tokens import chosen
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.workers import gather, worker_rank
from raysl.precision import at_least_float32, full_precision


def across_views(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy from each view's targets to all other views' softmax(scores / t).

    scores: of the student, [V, B, K]; targets: of the leading views, [T, B, K].
    """
    total = targets.sum(dim=0)
    local = total.expand(len(scores) - len(targets), *total.shape)
    others = torch.cat([total - targets, local])  # [V, B, K], the sum of those of other views
    logits, others = (scores / temperature).flatten(0, 1), others.flatten(0, 1)
    num_pairs = len(targets) * (len(scores) - 1) * scores.shape[1]
    return F.cross_entropy(logits, others, reduction="sum") / num_pairs


def masked_loss(scores: Tensor, targets: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """Sum of the cross-entropies of hidden patches, scores and targets [M, K], times weights [M].

    With those of `Hidden` it is the mean in each image, then over all images.
    """
    losses = F.cross_entropy(scores / temperature, targets, reduction="none")  # [M]
    return losses.dot(weights.to(losses.dtype))


def koleo_loss(z: Tensor) -> Tensor:
    """Sum over views of minus the mean log distance to the nearest other row of the same view.

    z: [V, B, D], normalised here; rows are those of all workers.
    """
    z = unit_rows(at_least_float32(z))
    everything = gather(z.transpose(0, 1)).transpose(0, 1)  # [V, N, D]
    with torch.no_grad(), full_precision(z):
        cosines = z @ everything.mT
        itself = cosines.diagonal(worker_rank() * z.shape[1], dim1=1, dim2=2)
        itself.fill_(-2.0)
        nearest = cosines.argmax(dim=2)  # [V, B]
    distance = F.pairwise_distance(z, chosen(everything, nearest), eps=1e-8)
    return distance.add(1e-8).log().sum() / -z.shape[1]
