"""Supervised cross-entropy on the labelled images: the from-scratch arm.

    loss = -log softmax(W f(x) + b)[label], with optional label smoothing

The baseline of every threshold: what the same labels give without any pretraining. Its own
classifier is reported as head_top1, and its features go through the same linear probe as those of
every other arm, so that the arms differ in their features alone.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.classification import classify_views
from raysl.methods.parts.fields import require
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(MethodConfig):
    """label_smoothing: share of the target spread over all classes (Szegedy et al. 2016)."""

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self, "from 0 to below 1", "label_smoothing")


class Supervised(Method):
    """Train encoder and classifier on the labelled images from random weights."""

    Config = SupervisedConfig
    family = "baseline"
    paper = "the from-scratch baseline; He et al. 2019, arXiv 1811.08883, on its strength"
    trains_on = "labels"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05)
    config: SupervisedConfig

    def __init__(self, config: SupervisedConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.classifier = nn.Linear(encoder.num_features, sizes["num_classes"])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        smoothing = self.config.label_smoothing if self.training else 0.0
        return classify_views(self.logits, batch, label_smoothing=smoothing)

    def logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.encoder(view))  # [B, num_classes]
        return logits

    @property
    def head(self) -> nn.Module:
        return self.classifier
