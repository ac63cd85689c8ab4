"""Supervised cross-entropy on the labelled images: the from-scratch arm.

    loss = -log softmax(W f(x) + b)[label], with optional label smoothing

The baseline of every threshold: what the same labels give without any pretraining. Its own
classifier is reported as head_top1, and its features go through the same linear probe as those of
every other arm, so that the arms differ in their features alone.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(MethodConfig):
    """label_smoothing: share of the target spread over all classes (Szegedy et al. 2016)."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"method.label_smoothing must be in 0 to 1, not {self.label_smoothing}."
            )


class Supervised(Method):
    """Train encoder and classifier on the labelled images from random weights."""

    Config = SupervisedConfig
    paper = "the from-scratch baseline; He et al. 2019, arXiv 1811.08883, on its strength"
    trains_on = "labels"
    views = VIEWS["crop_flip"]
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05)
    config: SupervisedConfig

    def __init__(
        self, config: SupervisedConfig, encoder: Encoder, *, num_examples: int, num_classes: int
    ):
        super().__init__(config, encoder, num_examples=num_examples, num_classes=num_classes)
        self.classifier = nn.Linear(encoder.num_features, num_classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        losses, hits = [], []
        for view in batch.views:
            logits = self.classifier(self.encoder(view)).float()  # [B, num_classes]
            smoothing = self.config.label_smoothing if self.training else 0.0
            losses.append(F.cross_entropy(logits, batch.labels, label_smoothing=smoothing))
            hits.append((logits.detach().argmax(dim=1) == batch.labels).float().mean())
        return {
            "loss": sum(losses[1:], losses[0]) / len(losses),
            "top1": sum(hits[1:], hits[0]) / len(hits) * 100,
        }

    @property
    def head(self) -> nn.Module:
        return self.classifier
