"""Contrastive losses of two views of a batch, all as functions of the same logits.

A logit is the cosine of two projections, divided by the temperature. Each of R views has one
logit with the other view of its image, `positive` [R], and one with each view of all other images
of the joined batch, `negatives` [R, 2N - 2]; each loss is a value for each of the R views.
"""

import torch
from torch import Tensor

from raysl.methods.parts.workers import averaged, gather, worker_rank
from raysl.precision import full_precision


def cosines(z: Tensor) -> tuple[Tensor, Tensor]:
    """Of this worker's views with the global batch: [2B] with the other view, [2B, 2N - 2].

    z: float [2B, D], normalised, rows i and B + i from one image.
    """
    everything = gather(z)  # [2N, D], N = workers * B
    num_images, before = len(z) // 2, worker_rank() * len(z)
    own = torch.arange(before, before + num_images, device=z.device)
    first = own.repeat(2)[:, None]  # columns of the image's own views: itself and its partner
    second = first + num_images
    others = torch.arange(len(everything) - 2, device=z.device)
    others = others + (others >= first)
    others = others + (others >= second)
    with full_precision(z):
        negatives = (z @ everything.T).gather(1, others)
    z1, z2 = z.chunk(2)
    return (z1 * z2).sum(dim=1).repeat(2), negatives


def nt_xent(positive: Tensor, negatives: Tensor) -> Tensor:
    """-log( exp(positive) / (exp(positive) + sum of exp(negatives)) ), [R]."""
    return torch.cat([positive[:, None], negatives], dim=1).logsumexp(dim=1) - positive


def decoupled(positive: Tensor, negatives: Tensor, weights: Tensor | float = 1.0) -> Tensor:
    """DCL: NT-Xent without the positive in the denominator; DCLW: with weights [R], too."""
    return negatives.logsumexp(dim=1) - weights * positive


@torch.no_grad()
def von_mises_fisher_weights(cosine: Tensor, sigma: float) -> Tensor:
    """DCLW's 2 - exp(cosine / sigma) / (its mean over the joined batch), [R]; the mean is 1."""
    relative = ((cosine - 1) / sigma).exp()  # the 1 cancels; it prevents an overflow
    return 2 - relative / averaged(relative.mean())


def debiased(
    positive: Tensor, negatives: Tensor, *, temperature: float, tau_plus: float, beta: float = 0.0
) -> Tensor:
    """-log( exp(positive) / (exp(positive) + M g) ), [R]: M negatives without false ones.

    g = max( (h - tau_plus exp(positive)) / (1 - tau_plus), exp(-1 / temperature) )

    h is the mean of exp(negatives), each weighted by exp(beta * negative): those of high logits
    are hard. With beta = 0 all weigh the same, and with tau_plus = 0 too this is NT-Xent.
    """
    highest = torch.maximum(positive, negatives.amax(dim=1)).detach()  # against an overflow
    positive, negatives = positive - highest, negatives - highest[:, None]
    hard = ((beta * negatives).softmax(dim=1) * negatives.exp()).sum(dim=1)
    mean = (hard - tau_plus * positive.exp()) / (1 - tau_plus)
    mean = torch.maximum(mean, (-1 / temperature - highest).exp())
    return (positive.exp() + negatives.shape[1] * mean).log() - positive


def top1(positive: Tensor, negatives: Tensor) -> Tensor:
    """Percent of the views whose nearest neighbour is the other view of their image."""
    return (positive > negatives.amax(dim=1)).mean(dtype=torch.float32) * 100


def require_others(name: str, batch_size: int) -> None:
    """A sentence unless a batch has other images to contrast with."""
    if batch_size < 2:
        raise ValueError(
            f"{name} contrasts the images of a batch; set batch_size to at least 2, not "
            f"{batch_size}."
        )
