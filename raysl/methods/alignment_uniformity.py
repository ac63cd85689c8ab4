"""Alignment and uniformity: views of an image meet, and all images spread over the sphere.

    loss = alignment * mean over images of |x - y|^alpha
         + uniformity * (u(x) + u(y)) / 2
    u(x) = log( mean over pairs i != j of exp(-t |x_i - x_j|^2) )

x and y are the normalised projections of two views.

Wang, Isola, "Understanding Contrastive Representation Learning through Alignment and Uniformity on
the Hypersphere", ICML 2020, arXiv 2005.10242, section 4; alpha, t, both weights and the SGD as in
the authors' code for STL-10, whose learning rate falls in steps, here along a cosine.

The pairs are those of the global batch, gathered over all workers with gradient. The authors'
encoder ends in fully connected layers and is evaluated below the last; here the head is SimCLR's
and the encoder is evaluated. Batch norm in the head uses each worker's own statistics.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.contrast import require_others
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import mlp, require_widths
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import gather
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class AlignmentUniformityConfig(MethodConfig):
    """alignment, uniformity: weights of the two terms. alpha: power of a pair's distance.

    t: the larger, the more only the nearest pairs repel each other.
    projector: widths of the head's layers.
    """

    alignment: float = 1.0
    uniformity: float = 1.0
    alpha: float = 2.0
    t: float = 2.0
    projector: tuple[int, ...] = (512, 128)

    def __post_init__(self) -> None:
        require(self, "0 or more", "alignment", "uniformity")
        require(self, "at least 1", "alpha")  # below, the gradient of a pair that meets is infinite
        require(self, "above 0", "t")
        require_widths("projector", self.projector)


class AlignmentUniformity(Method):
    """Minimise the distance of two views and the potential of all images on the sphere."""

    Config = AlignmentUniformityConfig
    family = "contrastive"
    paper = "Wang and Isola, ICML 2020, arXiv 2005.10242"
    views = VIEWS["simclr_small"]
    capturable = True
    optim = OptimConfig(name="sgd", lr=0.12, lr_scaling="linear", weight_decay=1e-4)
    config: AlignmentUniformityConfig

    def __init__(self, config: AlignmentUniformityConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        require_others("Uniformity", sizes["batch_size"])
        self.projector = mlp(encoder.num_features, config.projector)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("AlignmentUniformity", batch.views, 2)
        z = unit_rows(self.projector(self.encoder(torch.cat(batch.views))).float())  # [2B, D]
        x, y = (gather(part) for part in z.chunk(2))  # [N, D] each
        c = self.config
        align = alignment(x, y, c.alpha)
        uniform = uniformity(torch.stack([x, y]), c.t).mean()
        return {
            "loss": c.alignment * align + c.uniformity * uniform,
            "alignment": align,
            "uniformity": uniform,
            **embedding_signs(z),
        }


def alignment(x: Tensor, y: Tensor, alpha: float) -> Tensor:
    """Mean of the distances of rows that belong together, to the power of alpha."""
    if alpha == 2:
        return F.mse_loss(x, y, reduction="sum") / len(x)
    return (x - y).norm(dim=1).pow(alpha).mean()


def uniformity(x: Tensor, t: float) -> Tensor:
    """Log of the mean Gaussian potential of all pairs of normalised rows [..., N, D]; at most 0."""
    num_rows = x.shape[-2]
    itself = torch.eye(num_rows, dtype=torch.bool, device=x.device)
    with full_precision(x):
        logits = 2 * t * (x @ x.mT - 1)  # [..., N, N]
    potential = logits.masked_fill(itself, float("-inf")).flatten(-2).logsumexp(dim=-1)
    return potential - math.log(num_rows * (num_rows - 1))
