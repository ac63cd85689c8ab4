"""Instance discrimination against a bank: every image of the pool is a class of its own.

    softmax:  loss = -log( exp(v . b_i / t) / sum over all j of exp(v . b_j / t) )
    nce:      loss = -log h(i) - sum over m drawn j of log(1 - h(j))
              h(j) = p_j / (p_j + m / n),   p_j = exp(v . b_j / t) / Z

b_j is the bank's row of image j of n, i the image that v is of, t the temperature (Wu et al.,
CVPR 2018, arXiv 1805.01978, sections 3.1 and 3.2). Z, the softmax's denominator, is n times the
mean of exp(v . b_j / t) over the drawn j of this batch and all workers. The authors keep that of
the first batch; but a small pool's rows come near one another within its first epoch, Z is then
far too low, and on 1,047 images the loss grew a thousandfold and all features became one.

The j are drawn once a step for the batch of a worker, not for each image as by the authors, so that
a step reads m rows of the bank and not m for each image.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from raysl.methods.parts.bank import FeatureBank
from raysl.methods.parts.fields import require
from raysl.methods.parts.workers import averaged
from raysl.precision import full_precision

Loss = Literal["nce", "softmax"]


class InstanceBank(nn.Module):
    """The classes: a row for each image, the moving average of its own normalised features."""

    def __init__(
        self, num_examples: int, width: int, *, temperature: float, num_negatives: int | None
    ):
        """`num_negatives` for NCE; None for the softmax over all images."""
        super().__init__()
        self.bank = FeatureBank(num_examples, width)
        self.temperature = temperature
        self.num_negatives = num_negatives

    def negatives(self, generator: Generator) -> Tensor | None:
        """The images that a batch is told from, int64 [m], drawn with equal chances."""
        if self.num_negatives is None:
            return None
        size = (self.num_negatives,)
        return torch.randint(
            len(self.bank.rows), size, generator=generator, device=generator.device
        )

    def forward(self, v: Tensor, index: Tensor, negatives: Tensor | None) -> Tensor:
        """The loss of normalised features v [..., B, D] of the images `index` [B], means [...]."""
        rows = self.bank.rows
        v = v.to(rows.dtype) / self.temperature
        with full_precision(v):
            if negatives is None:
                # A copy: the bank may move on before the backward pass.
                logits = (v @ rows.clone().T).flatten(0, -2)
                classes = index.expand(v.shape[:-1]).flatten()
                losses = F.cross_entropy(logits, classes, reduction="none")
                return losses.view(v.shape[:-1]).mean(dim=-1)
            own = (v * rows[index]).sum(dim=-1)  # [..., B]
            others = v @ rows[negatives].T  # [..., B, m]
        return nce(own, others, self._log_sum_exp(others))

    @torch.no_grad()
    def _log_sum_exp(self, logits: Tensor) -> Tensor:
        """log(m Z / n): m times the mean over all drawn rows and all workers."""
        highest = 1 / self.temperature  # of cosines
        mean = averaged((logits - highest).exp().mean(dim=(-2, -1)))
        return mean.log() + (highest + math.log(logits.shape[-1]))


def nce(own: Tensor, others: Tensor, log_sum_exp: Tensor) -> Tensor:
    """The module's NCE loss, of logits of the images' own rows [..., B] and of drawn ones
    [..., B, m].

    log_sum_exp: log(m Z / n) [...], so that h(j) is the sigmoid of logit - log(m Z / n).
    """
    shift = log_sum_exp[..., None]
    told = F.softplus(shift - own) + F.softplus(others - shift[..., None]).sum(dim=-1)
    return told.mean(dim=-1)


def require_instances(config: Any) -> None:
    """A sentence unless the fields of a method's config make a bank and its loss."""
    require(config, "above 0", "temperature")
    require(config, "at least 1", "width")
    require(config, "from 0 to below 1", "bank_momentum")
    if config.loss not in ("nce", "softmax"):
        raise ValueError(f"method.loss must be nce or softmax, not {config.loss!r}.")
    if config.num_negatives is not None and config.loss == "softmax":
        raise ValueError(
            "method.num_negatives must stay none with method.loss=softmax, not "
            f"{config.num_negatives}: the softmax is over all images."
        )
    require(config, "at least 1", "num_negatives")
