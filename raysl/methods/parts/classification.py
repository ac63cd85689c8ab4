"""Cross entropy with known labels, and the accuracy logged beside it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.methods.method import Batch


def classify_views(
    classifier: Callable[[Tensor], Tensor], batch: Batch, *, label_smoothing: float
) -> dict[str, Tensor]:
    """ "loss" and "top1", means over the batch's views, of logits = classifier(view) [B, K]."""
    assert batch.labels is not None
    losses, hits = [], []
    for view in batch.views:
        logits = classifier(view).float()  # [B, K]
        losses.append(F.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing))
        hits.append(top1(logits.detach(), batch.labels))
    return {"loss": torch.stack(losses).mean(), "top1": torch.stack(hits).mean()}


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Accuracy of logits [B, K] in percent."""
    return (logits.argmax(dim=1) == labels).mean(dtype=torch.float32) * 100
