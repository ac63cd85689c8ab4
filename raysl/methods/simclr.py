"""SimCLR: two views of an image find each other among all other views of the batch.

    loss = mean over the 2B views i of
           -log( exp(s(i, j) / t) / sum over k != i of exp(s(i, k) / t) )

s is the cosine of two projections, j the other view of i's image, t the temperature (NT-Xent).

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", ICML 2020, arXiv 2002.05709, equation 1 and appendix B.

The negatives are those of the global batch, gathered over all workers with gradient. The default
temperature is the 0.5 that the paper found best at small batches for CIFAR-10 (appendix B.9); its
ImageNet value is 0.1. Its LARS for batches of 4,096 is AdamW here. Batch norm in the head uses each
worker's own statistics, the paper's is synchronised: with few images per worker prefer an encoder
with norm=group.

Other losses on the same logits, equations in `parts.contrast`:
dcl, dclw: no positive in the denominator, which small batches suffer from; dclw also weighs an
    image's positive by 2 - exp(s / sigma) / mean of exp(s / sigma), with sigma 0.5. Yeh et al.,
    "Decoupled Contrastive Learning", ECCV 2022, arXiv 2110.06848, section 3. The weights are
    numbers here, without a gradient; public implementations differ in this.
debiased: subtracts what negatives of the image's own class contribute, a share tau_plus of all.
    Chuang et al., "Debiased Contrastive Learning", NeurIPS 2020, arXiv 2007.00224, equation 8 with
    one positive and the lower bound of the authors' code; their t is 0.5 too.
hard: debiased, with negatives weighted by exp(beta s / t). Robinson et al., "Contrastive Learning
    with Hard Negative Samples", ICLR 2021, arXiv 2010.04592, section 3. As in the authors' code
    the weights have a gradient; beta 1 was its best on STL-10 at tau_plus 0.1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.contrast import (
    cosines,
    debiased,
    decoupled,
    nt_xent,
    require_others,
    top1,
    von_mises_fisher_weights,
)
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import mlp, require_widths
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS

# The fields that only some losses have.
FIELDS: dict[str, tuple[str, ...]] = {
    "nt_xent": (),
    "dcl": (),
    "dclw": ("sigma",),
    "debiased": ("tau_plus",),
    "hard": ("tau_plus", "beta"),
}


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(MethodConfig):
    """temperature: divides cosines. projector: widths of the head's layers, the last is D.

    sigma: of dclw; the smaller, the less images count whose views agree already.
    tau_plus: of debiased and hard; the chance that two images have one class, 1 / classes where
        they are balanced. beta: of hard; 0 is debiased.
    """

    loss: Literal["nt_xent", "dcl", "dclw", "debiased", "hard"] = "nt_xent"
    temperature: float = 0.5
    projector: tuple[int, ...] = (512, 128)
    projector_norm: bool = False  # a batch norm after the last layer, as in the authors' code
    sigma: float = 0.5
    tau_plus: float = 0.1
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.loss not in FIELDS:
            raise ValueError(f"method.loss must be one of {', '.join(FIELDS)}, not {self.loss!r}.")
        require(self, "above 0", "temperature")
        require_widths("projector", self.projector)
        for name in ("sigma", "tau_plus", "beta"):
            users = [loss for loss, names in FIELDS.items() if name in names]
            if self.loss not in users and getattr(self, name) != getattr(SimCLRConfig, name):
                raise ValueError(
                    f"method.{name} must stay {getattr(SimCLRConfig, name)} with "
                    f"method.loss={self.loss}, not {getattr(self, name)}; it belongs to "
                    f"{' and '.join(users)}."
                )
        require(self, "above 0", "sigma")
        require(self, "from 0 to below 1", "tau_plus")
        require(self, "0 or more", "beta")


class SimCLR(Method):
    """Contrast two views of an image with all other images of the global batch."""

    Config = SimCLRConfig
    family = "contrastive"
    paper = "Chen et al., ICML 2020, arXiv 2002.05709"
    views = VIEWS["simclr_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    config: SimCLRConfig

    def __init__(self, config: SimCLRConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        require_others("SimCLR", sizes["batch_size"])
        self.projector = mlp(
            encoder.num_features, config.projector, final_norm=config.projector_norm
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("SimCLR", batch.views, 2)
        z = unit_rows(self.projector(self.encoder(torch.cat(batch.views))).float())  # [2B, D]
        positive, negatives = cosines(z)
        return {
            "loss": contrastive_loss(positive, negatives, self.config),
            "contrast_top1": top1(positive, negatives),
            **embedding_signs(z),
        }


def contrastive_loss(positive: Tensor, negatives: Tensor, config: SimCLRConfig) -> Tensor:
    """The chosen loss of the cosines with the positive [R] and the negatives [R, M], its mean."""
    t = config.temperature
    weights: Tensor | float = 1.0
    if config.loss == "dclw":
        weights = von_mises_fisher_weights(positive, config.sigma)
    if config.loss == "nt_xent":
        losses = nt_xent(positive / t, negatives / t)
    elif config.loss in ("dcl", "dclw"):
        losses = decoupled(positive / t, negatives / t, weights)
    else:
        beta = config.beta if config.loss == "hard" else 0.0
        losses = debiased(
            positive / t, negatives / t, temperature=t, tau_plus=config.tau_plus, beta=beta
        )
    return losses.mean()
