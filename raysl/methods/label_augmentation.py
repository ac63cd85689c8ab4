"""Label augmentation: from scratch on labels, with a class for every pair of class and rotation.

    loss = mean over r of -log P(y, r | turn_r(x))        joint classifier, classes x 4 rotations
         + single_weight * -log Q(y | x)                  single classifier, unrotated images
         + T^2 * KL( A(. | x) || Q(. | x) at T )          A without gradient

    A(. | x) = softmax of the mean over r of the joint logits (., r) of turn_r(x), divided by T

Lee, Hwang, Shin, "Self-supervised Label Augmentation via Input Transformations", ICML 2020, arXiv
1910.05872, section 2.2: what it calls SLA+SD, with label augmentation, aggregated inference and
self-distillation; T is of the authors' code (hankook/SLA, trainers.py).

A second from-scratch arm: how much of what pretraining gives is in the rotations alone. The single
classifier has learnt what the four rotations together say and needs one pass of an image, so it is
this method's head. A step costs four passes of each image where `scratch` needs one.

Optimiser and views are those of `scratch`, so that both arms differ in the loss alone; the paper
has SGD with lr 0.1 for both of its. Batch norm uses each worker's own statistics.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.classification import top1
from raysl.methods.parts.fields import require
from raysl.methods.parts.rotations import NUM_ROTATIONS, rotate, rotation_labels
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class LabelAugmentationConfig(MethodConfig):
    """temperature: T. single_weight: of the single classifier's cross-entropy, the paper's beta."""

    temperature: float = 1.0
    single_weight: float = 1.0

    def __post_init__(self) -> None:
        require(self, "above 0", "temperature")
        require(self, "0 or more", "single_weight")


class LabelAugmentation(Method):
    """Train on class and rotation at once, and distil all rotations into one classifier."""

    Config = LabelAugmentationConfig
    family = "baseline"
    paper = "Lee et al., ICML 2020, arXiv 1910.05872"
    trains_on = "labels"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05)
    config: LabelAugmentationConfig

    def __init__(self, config: LabelAugmentationConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.num_classes = sizes["num_classes"]
        self.joint = nn.Linear(encoder.num_features, self.num_classes * NUM_ROTATIONS)
        self.single = nn.Linear(encoder.num_features, self.num_classes)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        terms = [self.of_view(view, batch.labels) for view in batch.views]
        return {name: torch.stack([t[name] for t in terms]).mean() for name in terms[0]}

    def of_view(self, view: Tensor, labels: Tensor) -> dict[str, Tensor]:
        features = self.encoder(rotate(view))  # [4B, D]
        joint = self.joint(features).float().unflatten(1, (self.num_classes, NUM_ROTATIONS))
        single = self.single(features[: len(view)]).float()  # [B, num_classes]
        aggregated = aggregate(joint.detach())
        joint_loss = joint_cross_entropy(joint, labels)
        single_loss = F.cross_entropy(single, labels)
        distillation = distil(single, aggregated, self.config.temperature)
        return {
            "loss": joint_loss + self.config.single_weight * single_loss + distillation,
            "distillation": distillation.detach(),
            "top1": top1(single.detach(), labels),
            "aggregated_top1": top1(aggregated, labels),
        }

    @property
    def head(self) -> nn.Module:
        return self.single


def joint_cross_entropy(joint: Tensor, labels: Tensor) -> Tensor:
    """Joint logits [4B, num_classes, 4] of `rotate`'s images against class and rotation at once."""
    turns = rotation_labels(len(labels), like=labels)
    return F.cross_entropy(joint.flatten(1), labels.repeat(NUM_ROTATIONS) * NUM_ROTATIONS + turns)


def aggregate(joint: Tensor) -> Tensor:
    """The mean over r of the logits (., r) of the images turned r times, [B, num_classes]."""
    by_turn = joint.unflatten(0, (NUM_ROTATIONS, -1))  # [4, B, num_classes, 4]
    return by_turn.diagonal(dim1=0, dim2=3).mean(dim=2)


def distil(single: Tensor, aggregated: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(aggregated / T) || softmax(single / T)), the mean over the batch."""
    target = F.log_softmax(aggregated / temperature, dim=1)
    found = F.log_softmax(single / temperature, dim=1)
    return temperature**2 * F.kl_div(found, target, reduction="batchmean", log_target=True)
