"""VICReg: two views agree, every feature varies, no two features repeat each other.

    loss = invariance * mean over n, d of (z1_nd - z2_nd)^2
         + variance   * (v(z1) + v(z2)) / 2
         + covariance * (c(z1) + c(z2))
    v(z) = mean over d of max(0, 1 - sqrt(var_d + 1e-4))
    c(z) = sum over i != j of cov_ij^2 / D

z1, z2 [N, D] are the projections of both views, not normalised; variances and covariances are over
the batch and divided by N - 1.

Bardes, Ponce, LeCun, "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised
Learning", ICLR 2022, arXiv 2105.04906, equations 1 to 6.

Normalised as in the authors' code (facebookresearch/vicreg, main_vicreg.py): equation 5 sums the
squared differences over d where the code means, and equation 6 adds v(z1) and v(z2) where the code
means; the weights 25, 25, 1 belong to the code. As c is divided by D, they hold for other widths.

Variances and covariances are of the global batch: k workers equal one but for batch norm, of which
each worker has its own statistics (the authors' are synchronised). Both views share a pass and
hence batch statistics. LARS at batch 2048 became AdamW.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import mlp, require_widths
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import batch_mean, num_workers, summed
from raysl.optim import OptimConfig
from raysl.precision import at_least_float32, full_precision
from raysl.views import VIEWS

EPSILON = 1e-4  # of the paper's equation 2


@dataclass(frozen=True, kw_only=True)
class VICRegConfig(MethodConfig):
    """invariance, variance, covariance: weights of the three terms.

    projector: widths of the head's layers (the paper's expander), the last is D.
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    projector: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require(self, "0 or more", "invariance", "variance", "covariance")
        if self.projector is not None:
            require_widths("projector", self.projector)


class VICReg(Method):
    """Match two views while every feature keeps its variance and a meaning of its own."""

    Config = VICRegConfig
    family = "redundancy reduction"
    paper = "Bardes et al., ICLR 2022, arXiv 2105.04906"
    views = VIEWS["byol_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "projector": "three layers of 4 x the encoder's features, as 8192 on ResNet-50's 2048"
    }
    config: VICRegConfig

    def __init__(self, config: VICRegConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        widths = config.projector or (4 * encoder.num_features,) * 3
        self.projector = mlp(encoder.num_features, widths)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("VICReg", batch.views, 2)
        embeddings = self.projector(self.encoder(torch.cat(batch.views)))
        embeddings = at_least_float32(embeddings)  # [2B, D]
        with full_precision(embeddings):
            first, second = embeddings.chunk(2)
            invariance = F.mse_loss(first, second)
            variance, covariance = penalties(embeddings.unflatten(0, (2, -1)))
        loss = (
            self.config.invariance * invariance
            + self.config.variance * variance
            + self.config.covariance * covariance
        )
        return {
            "loss": loss,
            "invariance": invariance.detach(),
            "variance": variance.detach(),
            "covariance": covariance.detach(),
            **embedding_signs(unit_rows(embeddings.detach())),
        }


def penalties(z: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of v(z) and the sum of c(z) over the views of the global batch; z [..., B, D],
    this worker's rows.
    """
    size = num_workers() * z.shape[-2]
    with torch.no_grad():  # rows of mean 0 give covariances a gradient of mean 0
        mean = batch_mean(z)
    z = z - mean
    covariances = summed(z.mT @ z) / (size - 1)  # [..., D, D]
    variances = covariances.diagonal(dim1=-2, dim2=-1)
    repeated = F.mse_loss(covariances, variances.detach().diag_embed(), reduction="sum")
    return F.relu(1 - (variances + EPSILON).sqrt()).mean(), repeated / z.shape[-1]
