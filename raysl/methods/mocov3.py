"""MoCo v3: SimCLR's batch of negatives, seen by a slow teacher, with BYOL's predictor.

    loss = ctr(q1, k2) + ctr(q2, k1)
    ctr(q, k) = 2 t * mean over i of -log( exp(q_i k_i / t) / sum over j of exp(q_i k_j / t) )

q are predictions from the student's projections of a view, k the teacher's projections of the
other, all normalised; j runs over all images of the global batch, t is the temperature.

Chen, Xie, He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021,
arXiv 2104.02057, section 3 and algorithm 1. The teacher's momentum rises from 0.99, or less in
short trainings, to 1 by a cosine.

As in the authors' code a ViT has a temperature of 0.2, a projector of three layers and a patch
projection that stays random (section 4), a convnet 1.0 and two layers; heads end in a batch norm
without scale and shift. Their hidden width of 4096 is twice ResNet-50's: here twice the encoder's.
Position embeddings stay the encoder's own, learned ones; theirs are fixed sines. AdamW at a small
batch stands for LARS at 4096 images. Batch norm uses each worker's own statistics on the CPU, the
paper's are synchronised.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.classification import top1
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import by_view, mlp
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.teacher import MOMENTUM_RULE, cosine, follow, momentum_of, teacher_of
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import gather, worker_rank
from raysl.optim import OptimConfig
from raysl.precision import full_precision
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class MoCoV3Config(MethodConfig):
    """temperature: divides cosines. momentum: of the teacher at the start; 1 at the end.

    layers: of the projector. hidden, width: of projector and predictor.
    random_patches: of ViTs, the patch projection keeps its random weights; convnets have none.
    """

    temperature: float | None = None
    momentum: float | None = None
    layers: int | None = None
    hidden: int | None = None
    width: int = 256
    random_patches: bool = True

    def __post_init__(self) -> None:
        require(self, "above 0", "temperature")
        require(self, "from 0 to 1", "momentum")
        require(self, "at least 1", "layers", "hidden", "width")


class MoCoV3(Method):
    """Contrast predictions with a slow teacher's projections of the whole batch."""

    Config = MoCoV3Config
    family = "contrastive"
    paper = "Chen et al., ICCV 2021, arXiv 2104.02057"
    views = VIEWS["byol_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "momentum": MOMENTUM_RULE,
        "temperature": "0.2 for a ViT, 1.0 for a convnet",
        "layers": "3 for a ViT, 2 for a convnet",
        "hidden": "twice the encoder's number of features",
    }
    config: MoCoV3Config

    def __init__(self, config: MoCoV3Config, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        body = encoder.body
        is_vit = isinstance(body, VisionTransformer)
        if isinstance(body, VisionTransformer) and config.random_patches:
            body.patch_embed.proj.requires_grad_(False)
        self.temperature = config.temperature or (0.2 if is_vit else 1.0)
        num_hidden = (config.layers or (3 if is_vit else 2)) - 1
        hidden, width = config.hidden or 2 * encoder.num_features, config.width
        self.projector = head(encoder.num_features, (*[hidden] * num_hidden, width))
        self.predictor = head(width, (hidden, width))
        self.teacher = teacher_of(nn.Sequential(encoder, *self.projector))
        self.momentum = momentum_of(config.momentum, 0.99, sizes["num_steps"])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("MoCo v3", batch.views, 2)
        z = by_view([self.encoder, *self.projector], batch.views)  # [2, B, D]
        q = by_view(self.predictor, z)
        with torch.no_grad():
            k = by_view(self.teacher, batch.views)
        loss, accuracy = contrast(q.float(), k.float().flip(0), self.temperature)
        return {
            "loss": 2 * loss,
            "contrast_top1": accuracy,
            **embedding_signs(unit_rows(z[0].detach().float())),
        }

    def after_update(self, progress: float) -> None:
        momentum = cosine(progress, self.momentum, 1.0)
        follow(self.teacher, nn.Sequential(self.encoder, self.projector), momentum)


def head(num_features: int, widths: tuple[int, ...]) -> nn.Sequential:
    """An MLP that ends in a batch norm without scale and shift."""
    return nn.Sequential(*mlp(num_features, widths), nn.BatchNorm1d(widths[-1], affine=False))


def contrast(q: Tensor, k: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The mean ctr of V pairs of this worker's q and k, [V, B, D] each; the top-1 in percent."""
    num_pairs, num_images, _ = q.shape
    everything = gather(k.transpose(0, 1)).transpose(0, 1)  # [V, N, D]
    with full_precision(q):
        logits = unit_rows(q) @ unit_rows(everything).mT / temperature  # [V, B, N]
    before = worker_rank() * num_images
    own = torch.arange(before, before + num_images, device=q.device).repeat(num_pairs)
    logits = logits.flatten(0, 1)
    return 2 * temperature * F.cross_entropy(logits, own), top1(logits.detach(), own)
