"""Barlow Twins: the features of two views agree one by one and repeat nothing of each other.

    loss = sum over i of (1 - C_ii)^2 + redundancy * sum over i != j of C_ij^2,   C = z1' z2 / N

z1, z2 [N, D] are the projections of both views, each column standardised over the batch.

Zbontar, Jing, Misra, LeCun, Deny, "Barlow Twins: Self-Supervised Learning via Redundancy
Reduction", ICML 2021, arXiv 2103.03230, equations 1 and 2.

With mixup_weight > 0 it is Mixed Barlow Twins, against overfitting on few images: Bandara, De Melo,
Patel, "Guarding Barlow Twins Against Overfitting with Mixed Samples", arXiv 2312.02151. Images
a x1 + (1 - a) x2[p], p a random order of the batch and a ~ Beta(b, b), should have projections
zm = a z1 + (1 - a) z2[p]. Compared are their correlations with z1 and with z2, zm' z / N with
(a z1 + (1 - a) z2[p])' z / N; with r = zm - a z1 - (1 - a) z2[p] this adds

    mixup_weight * redundancy * (|| r' z1 / N ||^2 + || r' z2 / N ||^2)        (Frobenius norms)

as in the authors' code for CIFAR and TinyImageNet, which has mixup_weight 4 and redundancy 1 / D;
their ImageNet code has half of it. Both let the gradient into all three projections.

Means, variances, C, a and p are those of the global batch: k workers equal one but for batch norm,
of which each worker has its own statistics (the authors' are synchronised). Both views share a
pass and hence batch statistics, the mixed images have their own. LARS at batch 2048 became AdamW.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import mlp, require_widths
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import batch_mean, draw, gather, num_workers, summed, worker_rank
from raysl.optim import OptimConfig
from raysl.precision import at_least_float32, full_precision
from raysl.views import VIEWS

EPSILON = 1e-5  # of the authors' batch norm, added to variances


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsConfig(MethodConfig):
    """redundancy: weight of the squares beside the diagonal, lambda in the paper.

    projector: widths of the head's layers, the last is D. loss_scale: multiplies the loss; it
    matters where gradients are clipped and to SGD. mixup_weight: 0 is plain Barlow Twins.
    mixup_beta: b of the Beta distribution of the mixing coefficient; 1 is uniform.
    """

    redundancy: float = 0.0051
    projector: tuple[int, ...] | None = None
    loss_scale: float = 1.0
    mixup_weight: float = 0.0
    mixup_beta: float = 1.0

    def __post_init__(self) -> None:
        require(self, "0 or more", "redundancy", "mixup_weight")
        require(self, "above 0", "loss_scale", "mixup_beta")
        if self.projector is not None:
            require_widths("projector", self.projector)


class BarlowTwins(Method):
    """Bring the cross-correlation of two views' features to the identity."""

    Config = BarlowTwinsConfig
    family = "redundancy reduction"
    paper = "Zbontar et al., ICML 2021, arXiv 2103.03230; mixup: Bandara et al., arXiv 2312.02151"
    views = VIEWS["byol_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "projector": "three layers of 4 x the encoder's features, as 8192 on ResNet-50's 2048"
    }
    config: BarlowTwinsConfig

    def __init__(self, config: BarlowTwinsConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        widths = config.projector or (4 * encoder.num_features,) * 3
        self.projector = mlp(encoder.num_features, widths)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("Barlow Twins", batch.views, 2)
        config = self.config
        embeddings = self.embed(torch.cat(batch.views))  # [2B, D]
        with full_precision(embeddings):
            z1, z2 = standardise(embeddings.unflatten(0, (2, -1)))
            on_diagonal, off_diagonal = correlation_errors(z1, z2)
            loss = on_diagonal + config.redundancy * off_diagonal
        logged = {"invariance": on_diagonal, "redundancy": off_diagonal}
        if config.mixup_weight:
            share, order = draw_mixture(batch.generator, len(z1), config.mixup_beta)
            mixed = mix(batch.views[0], batch.views[1], share, order)
            embedded = self.embed(mixed)
            with full_precision(embedded):
                mixup = mixing_error(standardise(embedded), z1, z2, share, order)
                loss = loss + config.mixup_weight * config.redundancy * mixup
            logged["mixup"] = mixup
        return {
            "loss": config.loss_scale * loss,
            **{name: value.detach() for name, value in logged.items()},
            **embedding_signs(unit_rows(embeddings.detach())),
        }

    def embed(self, images: Tensor) -> Tensor:
        """Projections [N, D]."""
        return at_least_float32(self.projector(self.encoder(images)))


class _Standardise(torch.autograd.Function):
    """Autograd would make twice as many operations of the gradient."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        centred = z - batch_mean(z)
        scale = (batch_mean(centred.square()) + EPSILON).rsqrt()
        standardised = centred * scale
        ctx.save_for_backward(standardised, scale)
        return standardised

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        standardised, scale = ctx.saved_tensors
        along = batch_mean(grads[0] * standardised)
        grad = torch.addcmul(grads[0], standardised, along, value=-1) * scale
        return grad - batch_mean(grad)  # last, so that rounding leaves no mean either


def standardise(z: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1 over the global batch; z [..., B, D], this worker's rows."""
    return _Standardise.apply(z)


def correlation(z1: Tensor, z2: Tensor) -> Tensor:
    """z1' z2 / N of the global batch, [D, D]."""
    return summed(z1.T @ z2) / (num_workers() * len(z1))


def correlation_errors(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    """The squared distance of the correlation's diagonal from 1, and of all else from 0."""
    c = correlation(z1, z2)
    diagonal = c.diagonal()
    on_diagonal = F.mse_loss(diagonal, torch.ones_like(diagonal), reduction="sum")
    beside = F.mse_loss(c, diagonal.detach().diag_embed(), reduction="sum")  # c_ii - c_ii is 0
    return on_diagonal, beside


def draw_mixture(generator: Generator, batch_size: int, beta: float) -> tuple[Tensor, Tensor]:
    """The first view's share in the mixture and an order int64 [N] of the global batch.

    Both are worker 0's draws, or all workers', so that they are the same everywhere.
    """
    order = gather(draw(generator, batch_size)).argsort()
    pair = torch.full((2,), beta, device=generator.device)
    gammas = gather(torch._standard_gamma(pair, generator=generator))[:2]
    return gammas[0] / gammas.sum(), order


def partners(x: Tensor, order: Tensor) -> Tensor:
    """The rows of all workers' x [B, ...] that `order` pairs with this worker's rows."""
    own = order[worker_rank() * len(x) : (worker_rank() + 1) * len(x)]
    return gather(x)[own]


def mix(x1: Tensor, x2: Tensor, share: Tensor, order: Tensor) -> Tensor:
    """share * x1 + (1 - share) * x2 in another order."""
    return torch.lerp(partners(x2, order), x1, share.to(x1.dtype))


def mixing_error(zm: Tensor, z1: Tensor, z2: Tensor, share: Tensor, order: Tensor) -> Tensor:
    """How far the correlations of the mixture are from the mixture of correlations, squared."""
    residual = zm - mix(z1, z2, share, order)
    return correlation(residual, z1).square().sum() + correlation(residual, z2).square().sum()
