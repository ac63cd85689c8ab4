"""I-JEPA: from the features of one part of an image, predict a teacher's features of other parts.

    loss = mean over target blocks, their patches i and features of (prediction_i - target_i)^2
    target_i = the teacher's features of patch i of the whole image, layer-normalised

Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas, "Self-Supervised Learning from
Images with a Joint-Embedding Predictive Architecture", CVPR 2023, arXiv 2301.08243, section 3.

The teacher follows the encoder as a moving average, its momentum rising linearly to 1; it is what
is evaluated, with its patches averaged. The paper gives the L2 distance; the authors' code takes
the smooth L1 loss (loss=smooth_l1), which is half of it for errors below 1. timm's ViT has a class
token, which the authors' has not: it takes part in the encoder and the predictor does not see it.
Blocks may touch the lower and right edges, which the authors' sampler never does; see
`multi_block`. Their predictor is 384 wide, with 6 blocks for ViT-B and 12 for ViT-L: half of
ViT-B's width and half of the blocks, which is the rule here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.data.images import send
from raysl.encoder import Encoder, EncoderConfig
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.masks import multi_block, require_range
from raysl.methods.parts.narrow_vit import HEAD, NarrowViT, require_size, share_of
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.teacher import MOMENTUM_RULE, follow, momentum_of, teacher_of
from raysl.methods.parts.tokens import (
    add_positions,
    chosen,
    embed_patches,
    keep,
    patches_a_side,
    patches_of,
    require_vit,
    run_blocks,
)
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.rng import generator
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class IJEPAConfig(MethodConfig):
    """num_targets: blocks to predict, each with a share target_scale of the patches and a height of
    target_aspect times its width. context_scale: the same share of the context block, before the
    targets are taken out of it.

    momentum: of the teacher at first. predictor_width, predictor_depth: features and blocks.
    """

    num_targets: int = 4
    target_scale: tuple[float, float] = (0.15, 0.2)
    target_aspect: tuple[float, float] = (0.75, 1.5)
    context_scale: tuple[float, float] = (0.85, 1.0)
    momentum: float | None = None
    predictor_width: int | None = None
    predictor_depth: int | None = None
    loss: Literal["mse", "smooth_l1"] = "mse"

    def __post_init__(self) -> None:
        require(self, "at least 1", "num_targets")
        require_range("target_scale", self.target_scale, 1.0)
        require_range("target_aspect", self.target_aspect)
        require_range("context_scale", self.context_scale, 1.0)
        require(self, "from 0 to 1", "momentum")
        require_size(self, "predictor")


class IJEPA(Method):
    """Predict a teacher's features of blocks of an image from the features of its context."""

    Config = IJEPAConfig
    family = "generative"
    paper = "Assran et al., CVPR 2023, arXiv 2301.08243"
    encoders = "ViT (timm)"
    encoder_config = EncoderConfig(name="vit", pool="avg")
    views = replace(VIEWS["crop_flip"], crop_scale=(0.3, 1.0), flip=0.0)
    # The paper's 1e-3 at batch 2048, taken to other batches by the square root.
    optim = OptimConfig(
        lr=3.5e-4, lr_scaling="sqrt", weight_decay=0.04, final_weight_decay=0.4, warmup=0.13
    )
    scaling: ClassVar[Mapping[str, str]] = {
        "momentum": MOMENTUM_RULE,
        "predictor_width": "half of the encoder's features, up to a multiple of 32",
        "predictor_depth": "half of the encoder's blocks",
    }
    config: IJEPAConfig

    def __init__(self, config: IJEPAConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        vit = require_vit(encoder, "I-JEPA")
        self.side = patches_a_side(vit)
        self.predictor = NarrowViT(
            vit.embed_dim,
            vit.embed_dim,
            side=self.side,
            width=config.predictor_width or share_of(vit.embed_dim, 2, step=HEAD),
            depth=config.predictor_depth or share_of(len(vit.blocks), 2),
        )
        self.teacher = teacher_of(encoder)
        self.momentum = momentum_of(config.momentum, 0.996, sizes["num_steps"])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("I-JEPA", batch.views, 1)
        (images,) = batch.views
        context, targets = self.blocks_of(batch)  # int64 [B, K], [B, T, M]
        num_targets = targets.shape[1]
        vit, teacher = self.encoder.body, self.teacher.body
        with torch.no_grad():
            whole = run_blocks(teacher, add_positions(teacher, embed_patches(teacher, images)))
            whole = patches_of(teacher, whole).float()  # [B, N, D]
            wanted = chosen(normalised(whole), targets.flatten(1)).unflatten(1, (num_targets, -1))
        tokens = keep(vit, add_positions(vit, embed_patches(vit, images)), context)
        tokens = patches_of(vit, run_blocks(vit, tokens))  # [B, K, D]
        predicted = self.predictor(
            tokens.repeat_interleave(num_targets, dim=0),
            context.repeat_interleave(num_targets, dim=0),
            targets.flatten(0, 1),
        ).unflatten(0, (-1, num_targets))  # [B, T, M, D]
        loss = distance(predicted.float(), wanted, self.config.loss)
        return {"loss": loss, **embedding_signs(unit_rows(whole.mean(dim=1)))}

    def blocks_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        c, images = self.config, batch.views[0]
        # The generator's seed changes with every step. Drawn on the CPU, sizes are known at once.
        context, targets = multi_block(
            generator(batch.generator.initial_seed(), "blocks"),
            len(images),
            side=self.side,
            num_targets=c.num_targets,
            target_scale=c.target_scale,
            target_aspect=c.target_aspect,
            context_scale=c.context_scale,
        )
        return send(context, images.device), send(targets, images.device)

    def after_update(self, progress: float) -> None:
        momentum = self.momentum + (1 - self.momentum) * progress
        follow(self.teacher, self.encoder, momentum)

    @property
    def evaluated(self) -> Encoder:
        return self.teacher


def normalised(features: Tensor) -> Tensor:
    """Each patch's features [..., D] with mean 0 and variance 1."""
    return F.layer_norm(features, features.shape[-1:])


def distance(predicted: Tensor, wanted: Tensor, loss: str) -> Tensor:
    """The mean over patches and features of the squared error, or of the smooth L1 loss."""
    return (F.mse_loss if loss == "mse" else F.smooth_l1_loss)(predicted, wanted)
