"""ReSSL: two views of an image resemble the earlier images in the same way.

    loss = mean over the batch of -sum over n in the queue of p_n log q_n
    p = softmax(k n / t_teacher)        q = softmax(z n / t_student)

z is the student's projection of the first view, k the teacher's of the second, n the k of earlier
images, all normalised; t_teacher < t_student sharpens the target. The teacher follows the student
as a moving average.

Zheng, You, Wang, Qian, Zhang, Wang, Xu, "ReSSL: Relational Self-Supervised Learning with Weak
Augmentation", NeurIPS 2021, arXiv 2107.09282, section 3.2.

The teacher's view is weak: cropped and flipped only.
The authors' queue of 131,072 is a tenth of ImageNet's 1.28 million images; `queue_size` follows
the pool by that share. Their momentum is 0.999 there and 0.99 on small data, here too at most. The
head has no batch norm; its hidden width of 4096 is twice ResNet-50's: here twice the encoder's.
The teacher's projections of all workers enter the queue. As in MoCo the authors shuffle images over
workers for batch norm; that is not reproduced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.bank import FeatureQueue
from raysl.methods.parts.fields import require
from raysl.methods.parts.queue_size import default_queue_size
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.teacher import MOMENTUM_RULE, follow, momentum_of, teacher_of
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class ReSSLConfig(MethodConfig):
    """student_temperature, teacher_temperature: divide cosines with the queue.

    momentum: what the teacher keeps of itself in an update. queue_size: earlier images to compare
    with. hidden, width: of the head.
    """

    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    momentum: float | None = None
    queue_size: int | None = None
    hidden: int | None = None
    width: int = 512

    def __post_init__(self) -> None:
        require(self, "above 0", "student_temperature", "teacher_temperature")
        require(self, "from 0 to 1", "momentum")
        require(self, "at least 1", "queue_size", "hidden", "width")


class ReSSL(Method):
    """Match how a view resembles earlier images with how a slow teacher sees the other view."""

    Config = ReSSLConfig
    family = "contrastive"
    paper = "Zheng et al., NeurIPS 2021, arXiv 2107.09282"
    views = replace(VIEWS["simclr_small"], jitter_prob_second=0.0, grayscale_prob_second=0.0)
    capturable = True
    optim = OptimConfig(name="sgd", lr=0.05, lr_scaling="linear", weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "momentum": MOMENTUM_RULE,
        "queue_size": "a tenth of the pool, at least 4 batches and at most half of the pool",
        "hidden": "twice the encoder's number of features",
    }
    config: ReSSLConfig

    def __init__(self, config: ReSSLConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        hidden = config.hidden or 2 * encoder.num_features
        self.projector = nn.Sequential(
            nn.Linear(encoder.num_features, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, config.width),
        )
        self.teacher = teacher_of(nn.Sequential(encoder, self.projector))
        self.momentum = momentum_of(config.momentum, 0.99, sizes["num_steps"])
        length = config.queue_size or default_queue_size(
            sizes["num_examples"], sizes["batch_size"], share=1 / 10
        )
        self.queue = FeatureQueue(length, config.width)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("ReSSL", batch.views, 2)
        strong, weak = batch.views
        z = unit_rows(self.projector(self.encoder(strong)).float())  # [B, D]
        with torch.no_grad():
            k = unit_rows(self.teacher(weak).float())  # [B, D]
        earlier = self.queue.rows.float().clone()  # [K, D], for the backward pass
        loss, targets = relation_loss(
            z,
            k,
            earlier,
            student_temperature=self.config.student_temperature,
            teacher_temperature=self.config.teacher_temperature,
        )
        if self.training:
            self.queue.push(k)
        entropy = torch.special.entr(targets).sum() / len(targets)
        return {"loss": loss, "divergence": loss - entropy, **embedding_signs(z)}

    def after_update(self, progress: float) -> None:
        student = nn.Sequential(self.encoder, self.projector)
        follow(self.teacher, student, self.momentum)


def relation_loss(
    z: Tensor, k: Tensor, earlier: Tensor, *, student_temperature: float, teacher_temperature: float
) -> tuple[Tensor, Tensor]:
    """The loss of z [B, D] given k [B, D] and earlier [K, D], and the targets [B, K].

    All are normalised.
    """
    with full_precision(z):
        targets = ((k / teacher_temperature) @ earlier.T).softmax(dim=1)
        logits = (z / student_temperature) @ earlier.T
    return (targets * logits.log_softmax(dim=1)).sum() / -len(z), targets
