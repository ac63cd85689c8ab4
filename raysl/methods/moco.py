"""MoCo v2: a view finds its image's other view among the views of earlier images.

    loss = -log( exp(q k / t) / (exp(q k / t) + sum over n in the queue of exp(q n / t)) )

q is the first view's projection, k the teacher's of the second, both normalised; the queue holds
the teacher's k of the last images, t is the temperature. The teacher follows the student as a
moving average.

Chen, Fan, Girshick, He, "Improved Baselines with Momentum Contrastive Learning", arXiv 2003.04297;
the loss is equation 1 of He et al., "Momentum Contrast", CVPR 2020, arXiv 1911.05722. Optimiser as
there: SGD with lr 0.03 for a batch of 256 and a cosine without warm-up.

The paper's queue of 65,536 is a twentieth of its 1.28 million images; `queue_size` follows the
pool by that share. Its momentum of 0.999 is for a million updates: over the 1,000 updates of a
short training the teacher would stay close to its random start, so there it is less.
The keys of all workers enter the queue. The paper shuffles images over workers so that batch norm
cannot tell a pair by its statistics; that is not reproduced: workers here share statistics on
CUDA, and a worker's queries and keys are normalised in passes of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.bank import FeatureQueue
from raysl.methods.parts.classification import top1
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
class MoCoConfig(MethodConfig):
    """temperature: divides cosines. momentum: what the teacher keeps of itself in an update.

    queue_size: earlier keys to contrast with. hidden, width: of the head, which has no batch norm.
    """

    temperature: float = 0.2
    momentum: float | None = None
    queue_size: int | None = None
    hidden: int | None = None
    width: int = 128

    def __post_init__(self) -> None:
        require(self, "above 0", "temperature")
        require(self, "from 0 to 1", "momentum")
        require(self, "at least 1", "queue_size", "hidden", "width")


class MoCo(Method):
    """Contrast a view's query with its key of a slow teacher and a queue of earlier keys."""

    Config = MoCoConfig
    family = "contrastive"
    paper = "Chen et al., 2020, arXiv 2003.04297"
    views = VIEWS["simclr_small"]
    capturable = True
    optim = OptimConfig(name="sgd", lr=0.03, lr_scaling="linear", weight_decay=1e-4, warmup=0.0)
    scaling: ClassVar[Mapping[str, str]] = {
        "momentum": MOMENTUM_RULE,
        "queue_size": "a twentieth of the pool, at least 4 batches and at most half of the pool",
        "hidden": "the encoder's number of features",
    }
    config: MoCoConfig

    def __init__(self, config: MoCoConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        hidden = config.hidden or encoder.num_features
        self.projector = nn.Sequential(
            nn.Linear(encoder.num_features, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, config.width),
        )
        self.teacher = teacher_of(nn.Sequential(encoder, self.projector))
        self.momentum = momentum_of(config.momentum, 0.999, sizes["num_steps"])
        length = config.queue_size or default_queue_size(
            sizes["num_examples"], sizes["batch_size"], share=1 / 20
        )
        self.queue = FeatureQueue(length, config.width)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("MoCo", batch.views, 2)
        query = unit_rows(self.projector(self.encoder(batch.views[0])).float())  # [B, D]
        with torch.no_grad():
            key = unit_rows(self.teacher(batch.views[1]).float())  # [B, D]
        negatives = self.queue.rows.float().clone()  # [K, D], for the backward pass
        loss, accuracy = info_nce(query, key, negatives, self.config.temperature)
        if self.training:
            self.queue.push(key)
        return {"loss": loss, "contrast_top1": accuracy, **embedding_signs(query)}

    def after_update(self, progress: float) -> None:
        student = nn.Sequential(self.encoder, self.projector)
        follow(self.teacher, student, self.momentum)


def info_nce(
    query: Tensor, key: Tensor, negatives: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """InfoNCE of queries [B, D] with their keys [B, D] and negatives [K, D]; top-1 in percent.

    All are normalised.
    """
    query = query / temperature
    positive = (query * key).sum(dim=1, keepdim=True)  # [B, 1]
    with full_precision(query):
        logits = torch.cat([positive, query @ negatives.T], dim=1)  # [B, 1 + K]
    target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    return F.cross_entropy(logits, target), top1(logits.detach(), target)
