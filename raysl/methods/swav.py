"""SwAV: a view predicts the code of another view, and codes use all prototypes equally.

    loss = mean over the 2 global views t and all other views v of
           -sum over k of q_t[k] log softmax(z_v . c / temperature)[k]
    q = Sinkhorn(z . c / epsilon), without gradient

z are normalised projections, c the K normalised prototypes, which are learnt.

Caron, Misra, Mairal, Goyal, Bojanowski, Joulin, "Unsupervised Learning of Visual Features by
Contrasting Cluster Assignments", NeurIPS 2020, arXiv 2006.09882, equations 2 to 5, appendix A.

As in the authors' code prototypes are normalised after every update, get no gradient at first,
and a queue of earlier projections joins the scores for Sinkhorn only. The paper's K of 3,000 is for
1.28 million images of 1,000 classes, and more did not matter; here a prototype stands for 50
images, which leaves a class of 150 the paper's three. The queue fits the paper's for batches of
256, where it holds 1.28 K (3,840), and is left out where a batch has an image for each prototype,
as the paper's of 4,096 had; it fills after the same share of the training (epoch 15 of 200) and
takes part once it is full. Prototypes are frozen for an epoch of 100. The head's hidden layer has
512 units for the paper's 2048, the width of its ResNet-50, and AdamW replaces LARS at batch 4096.

epsilon is 0.03, which the authors advise where the loss stays at log K, instead of 0.05: with that
and these views scikit-learn's digits (8 px) collapsed, and Fashion-MNIST learnt more slowly.
Codes balance over the joined batch of all workers; the head's batch norm is each worker's own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.bank import FeatureQueue
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import mlp, require_widths
from raysl.methods.parts.kmeans import own_share
from raysl.methods.parts.labels import num_clusters
from raysl.methods.parts.signs import embedding_signs, target_signs
from raysl.methods.parts.sinkhorn import sinkhorn
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import each_view, require_global_views
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SwAVConfig(MethodConfig):
    """temperature: of predictions. epsilon: of codes; high ones make all codes uniform.

    queue_size: projections of each global view that join Sinkhorn, 0 for none. queue_start and
    freeze: until which share of the training there is no queue, and prototypes stay as they are.
    """

    temperature: float = 0.1
    epsilon: float = 0.03
    sinkhorn_iterations: int = 3
    num_prototypes: int | None = None
    projector: tuple[int, ...] = (512, 128)
    queue_size: int | None = None
    queue_start: float = 0.075
    freeze: float = 0.01

    def __post_init__(self) -> None:
        require(self, "above 0", "temperature", "epsilon")
        require(self, "at least 1", "sinkhorn_iterations")
        require(self, "at least 2", "num_prototypes")
        require(self, "0 or more", "queue_size")
        require(self, "from 0 to 1", "queue_start", "freeze")
        require_widths("projector", self.projector)


class SwAV(Method):
    """Predict the balanced prototype assignment of one view from the others."""

    Config = SwAVConfig
    family = "clustering"
    paper = "Caron et al., NeurIPS 2020, arXiv 2006.09882"
    views = VIEWS["swav_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "num_prototypes": "one for every 50 images, from 10 to 3,000",
        "queue_size": "1.28 x num_prototypes in whole batches; 0 where a batch has as many images",
    }
    config: SwAVConfig

    def __init__(self, config: SwAVConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        width = config.projector[-1]
        count = config.num_prototypes
        if count is None:
            count = num_clusters(sizes["num_examples"], images_each=50, most=3000)
        size = config.queue_size
        if size is None:
            size = queue_for(count, sizes["batch_size"])
        self.projector = mlp(encoder.num_features, config.projector)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(count, width), dim=1))
        # A row holds both global views' projections.
        self.queue = FeatureQueue(size, 2 * width) if size else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_global_views("SwAV", batch.views)
        num_views = len(batch.views)
        features = torch.cat(each_view(self.encoder, batch.views))
        z = unit_rows(self.projector(features).float())  # [V B, D]
        with full_precision(z):
            scores = (z @ self.prototypes.float().T).chunk(num_views)  # [B, K] each
            queue = self.queue if self.phase(batch.progress) else None
            codes = [self.codes(scores[t], t, queue) for t in range(2)]
            loss = swapped_prediction(scores, codes, self.config.temperature)
        z1, z2, *_ = z.detach().chunk(num_views)
        if queue is not None and self.training:
            queue.push(torch.cat([z1, z2], dim=1))
        return {"loss": loss, **embedding_signs(z1), **target_signs(codes[0])}

    def phase(self, progress: float) -> bool:
        """Whether there is a queue."""
        return self.queue is not None and progress >= self.config.queue_start

    @torch.no_grad()
    def codes(self, scores: Tensor, view: int, queue: FeatureQueue | None) -> Tensor:
        """Of this worker's scores [B, K], balanced with all workers' and a full queue's."""
        plain = self.balanced(scores)
        if queue is None:
            return plain
        earlier = queue.rows[own_share()].float().chunk(2, dim=1)[view]
        joined = torch.cat([earlier @ self.prototypes.float().T, scores])
        full = queue.num_stored >= len(queue.rows)
        return torch.where(full, self.balanced(joined)[-len(scores) :], plain)

    def balanced(self, scores: Tensor) -> Tensor:
        config = self.config
        return sinkhorn(scores, epsilon=config.epsilon, num_iterations=config.sinkhorn_iterations)

    def before_update(self, progress: float) -> None:
        if progress < self.config.freeze:
            self.prototypes.grad = None

    @torch.no_grad()
    def after_update(self, progress: float) -> None:
        self.prototypes.copy_(unit_rows(self.prototypes))


def swapped_prediction(
    scores: tuple[Tensor, ...], codes: list[Tensor], temperature: float
) -> Tensor:
    """Mean cross entropy of the codes [B, K] of the first views with every other view's scores."""
    logs = [F.log_softmax(s / temperature, dim=1) for s in scores]
    terms = [
        -(q * log).sum(dim=1).mean()
        for t, q in enumerate(codes)
        for v, log in enumerate(logs)
        if v != t
    ]
    return sum(terms[1:], terms[0]) / len(terms)


def queue_for(num_prototypes: int, batch_size: int) -> int:
    """1.28 times the prototypes in whole batches, 0 where a batch is as large as they are many."""
    if batch_size >= num_prototypes:
        return 0
    return math.ceil(1.28 * num_prototypes / batch_size) * batch_size
