"""RotNet: by which of four quarter turns was an image rotated?

    loss = mean over the images x and the turns r = 0 to 3 of -log softmax(W f(turn_r(x)) + b)[r]

Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations",
ICLR 2018, arXiv 1803.07728, equations 1 and 2.

As in the paper all four copies of an image are in the batch, so a step costs four passes of it;
images are cropped and flipped only. The paper pads CIFAR's images by 4 pixels before it crops, here
the crop is resized. Its SGD (0.1 at 128 images) became AdamW, which trains ViTs too. The paper
probes early layers, where features transfer better than at the last; here the last is evaluated.

The task needs images that have an upright position. Where every rotation is as likely, as in
microscopy, histology or pictures from the air, there is nothing to learn: the loss stays near
log 4 = 1.39, rotation_top1 near 25, and the features near random ones. Views that rotate or flip
vertically (with the horizontal flip, a half turn) spoil it likewise.

Batch norm uses each worker's own statistics.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.classification import top1
from raysl.methods.parts.rotations import NUM_ROTATIONS, rotate, rotation_labels
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class RotationConfig(MethodConfig):
    """Nothing to choose: four rotations were the paper's best of 2, 4 and 8."""


class Rotation(Method):
    """Classify the rotation of an image."""

    Config = RotationConfig
    family = "generative"
    paper = "Gidaris et al., ICLR 2018, arXiv 1803.07728"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    config: RotationConfig

    def __init__(self, config: RotationConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.classifier = nn.Linear(encoder.num_features, NUM_ROTATIONS)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses, hits = [], []
        for view in batch.views:
            logits = self.classifier(self.encoder(rotate(view))).float()  # [4B, 4]
            turns = rotation_labels(len(view), like=view)
            losses.append(F.cross_entropy(logits, turns))
            hits.append(top1(logits.detach(), turns))
        return {
            "loss": sum(losses[1:], losses[0]) / len(losses),
            "rotation_top1": sum(hits[1:], hits[0]) / len(hits),
        }
