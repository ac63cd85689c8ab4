"""SimCLR: two views of an image find each other among all other views of the batch.

    loss = mean over the 2B views i of
           -log( exp(s(i, j) / t) / sum over k != i of exp(s(i, k) / t) )

s is the cosine of two projections, j the other view of i's image, t the temperature (NT-Xent).

Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual
Representations", ICML 2020, arXiv 2002.05709, equation 1 and appendix B.

The negatives are those of the global batch, gathered over all workers with gradient. The default
temperature is the 0.5 that the paper found best at small batches for CIFAR-10 (appendix B.9); its
ImageNet value is 0.1. Batch norm in the head uses each worker's own statistics, the paper's is
synchronised: with few images per worker prefer an encoder with norm=group.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts import gather, mlp, worker_rank
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SimCLRConfig(MethodConfig):
    """temperature: divides cosines. projector: widths of the head's layers, the last is D."""

    temperature: float = 0.5
    projector: tuple[int, ...] = (512, 128)
    projector_norm: bool = False  # a batch norm after the last layer, as in the authors' code

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"method.temperature must be above 0, not {self.temperature}.")
        if not self.projector or min(self.projector) < 1:
            raise ValueError("method.projector needs at least one width, such as 512,128.")


class SimCLR(Method):
    """Contrast two views of an image with all other images of the global batch."""

    Config = SimCLRConfig
    paper = "Chen et al., ICML 2020, arXiv 2002.05709"
    views = VIEWS["simclr_small"]
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    config: SimCLRConfig

    def __init__(
        self, config: SimCLRConfig, encoder: Encoder, *, num_examples: int, num_classes: int
    ):
        super().__init__(config, encoder, num_examples=num_examples, num_classes=num_classes)
        self.projector = mlp(
            encoder.num_features, config.projector, final_norm=config.projector_norm
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        if len(batch.views) != 2:
            raise ValueError(f"SimCLR needs views.num_views=2, not {len(batch.views)}.")
        z = self.projector(self.encoder(torch.cat(batch.views)))  # [2B, D]
        z1, z2 = z.float().chunk(2)
        loss, accuracy = nt_xent(z1, z2, self.config.temperature)
        return {"loss": loss, "contrast_top1": accuracy}


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """NT-Xent of this worker's views against the global batch, and its top-1 accuracy in percent.

    z1, z2: float [B, D], not normalised, row i of both from one image.
    """
    batch_size = len(z1)
    z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    all1, all2 = gather(z1), gather(z2)  # [N, D] each, N = workers * B
    everything = torch.cat([all1, all2])  # [2N, D]
    own = torch.arange(batch_size, device=z1.device) + worker_rank() * batch_size
    partner = torch.cat([own + len(all1), own])  # of z1's rows, then of z2's
    logits = torch.cat([z1, z2]) @ everything.T / temperature  # [2B, 2N]
    itself = torch.cat([own, own + len(all1)])
    logits = logits.scatter(1, itself[:, None], float("-inf"))
    accuracy = (logits.detach().argmax(dim=1) == partner).float().mean() * 100
    return F.cross_entropy(logits, partner), accuracy
