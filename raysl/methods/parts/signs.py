"""What a method logs about its own outputs, so that a collapse is seen where it happens."""

import math

import torch
from torch import Tensor

from raysl.precision import full_precision

FEWEST = 8  # rows; fewer cannot take up more than a few directions, whatever their encoder


@torch.no_grad()
def embedding_signs(rows: Tensor) -> dict[str, Tensor]:
    """What joint-embedding methods log of their embeddings, as unit vectors [B, D]:

    embedding_std: their standard deviation over the batch, times sqrt(D). 1 if they spread over
    the whole sphere, 0 if all are one (Chen and He, "Exploring Simple Siamese Representation
    Learning", CVPR 2021, section 4.1).
    embedding_rank: how many directions they take up, see `participation`.

    A batch norm after the projector hides a collapse from the first alone: it cannot give one
    point, but it gives a line through 0, with most images on one side.
    """
    std, mean = torch.std_mean(rows, dim=0, correction=0)
    signs = {"embedding_std": std.mean() * math.sqrt(rows.shape[1])}
    if len(rows) >= FEWEST:
        signs["embedding_rank"] = participation(rows, mean)
    return signs


def participation(rows: Tensor, mean: Tensor) -> Tensor:
    """How many directions rows [B, D] of that mean take up: 1 on a line through 0, at most D.

    The participation ratio (sum of e)^2 / sum of e^2 over the eigenvalues e of their second
    moments, about 0 or about their mean, whichever is larger: the first alone is 1 for a narrow
    cone, and the second for a cone that is long in one direction; neither has collapsed.
    """
    both = torch.stack([rows, rows - mean])  # [2, B, D]
    with full_precision(rows):
        gram = both @ both.mT if len(rows) < rows.shape[1] else both.mT @ both
    trace = gram.diagonal(dim1=1, dim2=2).sum(dim=1)
    norm = torch.linalg.vector_norm(gram, dim=(1, 2)).clamp_min(torch.finfo(gram.dtype).tiny)
    return (trace / norm).square().amax()


@torch.no_grad()
def target_signs(targets: Tensor) -> dict[str, Tensor]:
    """Of target distributions [B, K], both as shares of log K:

    target_entropy: the mean entropy of a row; 1: every target is uniform.
    target_usage: the entropy of the mean row; 0: all targets are one and the same class.
    """
    rows = targets.detach().float()
    scale = math.log(max(2, rows.shape[1]))
    mean = rows.mean(dim=0)
    return {
        "target_entropy": torch.special.entr(rows).sum() / (len(rows) * scale),
        "target_usage": torch.special.entr(mean).sum() / scale,
    }
