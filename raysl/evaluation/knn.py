"""Weighted k-nearest neighbours on the cosine: no training, nothing to tune.

    votes for class c = sum over the k nearest training images of class c of  exp(cosine / t)

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018, section 3.4, with t = 0.07; Caron et al., "Emerging Properties in Self-Supervised Vision
Transformers", ICCV 2021, found k = 20 the best almost always.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.evaluation.features import Labelled, Predictions

if TYPE_CHECKING:
    from raysl.evaluation import EvaluationConfig

VERSION = 1
MEMORY_BYTES = 2**27  # for the similarities of the queries that are compared at once


def predict(
    train: Labelled,
    held_out: Mapping[str, Labelled],
    *,
    num_classes: int,
    config: "EvaluationConfig",
) -> Predictions:
    """Classify every held-out split by its neighbours in `train`."""
    scores = {
        split: votes(
            train,
            labelled.features,
            num_classes=num_classes,
            k=config.knn_k,
            temperature=config.knn_temperature,
        )
        for split, labelled in held_out.items()
    }
    return Predictions(scores, details={"k": min(config.knn_k, len(train.labels))})


def votes(
    train: Labelled,
    queries: Tensor,
    *,
    num_classes: int,
    k: int,
    temperature: float,
    memory_bytes: int = MEMORY_BYTES,
) -> Tensor:
    """Each class's votes for each query, float32 [Q, num_classes]; -inf without any neighbour.

    With fewer than k training images all of them vote. A query's votes are relative to its
    nearest neighbour's, which counts 1, so that no temperature overflows.
    """
    bank = F.normalize(train.features)  # [N, D]
    k = min(k, len(bank))
    row_bytes = 4 * len(bank) + 12 * k * num_classes  # similarities, and int64 and float one-hots
    chunks = []
    for chunk in F.normalize(queries).split(max(1, memory_bytes // row_bytes)):
        cosines, neighbours = (chunk @ bank.T).topk(k)  # [B, k] each, nearest first
        weights = ((cosines - cosines[:, :1]) / temperature).exp()
        one_hot = F.one_hot(train.labels[neighbours], num_classes).to(weights.dtype)  # [B, k, C]
        # A product instead of scatter_add, whose order of summation varies on a GPU.
        chunks.append((weights[:, None] @ one_hot)[:, 0])
    scores = torch.cat(chunks)  # [Q, num_classes]
    return scores.masked_fill(scores == 0, -torch.inf)
