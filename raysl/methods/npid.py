"""NPID: every image is a class, and its row in a memory bank is the weight of its class.

    loss = -log P(i | v) + proximal * |v - b_i|^2,   P(j | v) = exp(v . b_j / t) / sum of the like
    b_i <- normalise( m b_i + (1 - m) v )            after each step

v are the normalised features of image i, b the bank; P by the full softmax or by NCE, see
`parts.instances`.

Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination",
CVPR 2018, arXiv 1805.01978, section 3.

NCE takes the paper's 4,096 negatives, but no more than there are images; loss=softmax is what the
authors' code runs on CIFAR-10, about as slow as our convnet from 50,000 images on. As in that code
the bank is a moving average with momentum 0.5 and `proximal` is 0; the paper has the proximal term
and overwrites the row (bank_momentum=0). The temperature is the paper's, the code's for CIFAR-10
is 0.1. AdamW, because the code's SGD (0.03 at a batch of 128, 200 epochs) is slow where trainings
are short: after 25 epochs on 1,047 digits of 16 pixels k-NN found 97 % with AdamW and 86 % with
SGD, less than with the untrained encoder (92 %; one seed, 500 test images).

A new image's row is random until it was seen, so there is no validation loss. All workers' features
go into the bank, which agrees on all of them; one view of an image, so no batch has it twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.instances import InstanceBank, Loss, require_instances
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS

NUM_NEGATIVES_RULE = "4,096, but no more than there are images"


@dataclass(frozen=True, kw_only=True)
class NPIDConfig(MethodConfig):
    """temperature: divides cosines. width: of the features in the bank.

    bank_momentum: what a row keeps of itself in each update.
    loss: "nce" with num_negatives drawn images, or the "softmax" over all.
    proximal: weighs the distance of an image's features to its row.
    """

    temperature: float = 0.07
    width: int = 128
    bank_momentum: float = 0.5
    loss: Loss = "nce"
    num_negatives: int | None = None
    proximal: float = 0.0

    def __post_init__(self) -> None:
        require_instances(self)
        require(self, "0 or more", "proximal")


class NPID(Method):
    """Classify each image as itself among all images of the pool."""

    Config = NPIDConfig
    family = "contrastive"
    paper = "Wu et al., CVPR 2018, arXiv 1805.01978"
    views = replace(VIEWS["simclr_small"], num_views=1)
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {"num_negatives": NUM_NEGATIVES_RULE}
    has_validation_loss = False
    config: NPIDConfig

    def __init__(self, config: NPIDConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.projector = nn.Linear(encoder.num_features, config.width)
        num_negatives = config.num_negatives
        if config.loss == "nce" and num_negatives is None:
            num_negatives = default_negatives(sizes["num_examples"])
        self.instances = InstanceBank(
            sizes["num_examples"],
            config.width,
            temperature=config.temperature,
            num_negatives=num_negatives,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("NPID", batch.views, 1)
        v = unit_rows(self.projector(self.encoder(batch.views[0])).float())  # [B, D]
        loss = self.instances(v, batch.index, self.instances.negatives(batch.generator))
        logged = embedding_signs(v)
        if self.config.proximal:
            rows = self.instances.bank.rows[batch.index]
            moved = F.mse_loss(v, rows, reduction="sum") / len(v)
            loss = loss + self.config.proximal * moved
            logged["bank_distance"] = moved.detach()
        if self.training:
            self.instances.bank.mix(batch.index, v.detach(), self.config.bank_momentum)
        return {"loss": loss, **logged}


def default_negatives(num_examples: int) -> int:
    """By NUM_NEGATIVES_RULE."""
    return min(4096, num_examples)
