"""DINOv2: DINO between views, iBOT on hidden patches, and class tokens that keep their distance.

    loss = dino + ibot + 0.1 koleo
    dino  = mean over global views t, other views s of  -sum over k of P_t(k) log P_s(k)  (class)
    ibot  = 1 / images * sum over global views, mean over its hidden patches i of
            -sum over k of P_t,i(k) log P_s,i(k)
    koleo = sum over the two global views of  -mean over images n of log min over m != n |z_n - z_m|

P_t comes from the teacher, which sees whole views, through Sinkhorn-Knopp; P_s from the student,
which sees a mask token in place of hidden patches. z are normalised class tokens of the student.

Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024, arXiv
2304.07193, section 4 and appendix B; iBOT: Zhou et al., ICLR 2022, arXiv 2111.07832, equation 2;
KoLeo: Sablayrolles et al., ICLR 2019, arXiv 1806.03198. Values as in the authors' configuration
for ViT-L/14, the learning rate as for their ViT-S; two heads, whose weights they untied at scale.

What differs: K = 131,072 outputs belong to 142 million images, so K follows the pool by DINO's
rule, and the head's widths follow DINO's. Which places of a batch are masked, and by how much, is
mixed once, where the authors mix it in every batch. The nearest neighbours of KoLeo are those of
the batches of all workers, the authors' are each worker's. The prototypes' norm is fixed at 1. No
stochastic depth (0.4 for ViT-L, none for their ViT-S), layer scale, registers or weight decay by
layer. The teacher's temperature stays at 0.04 (the authors' rises to 0.07 over 37,500 steps) and
its momentum starts lower in trainings of few steps, see `parts/teacher.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from raysl.encoder import Encoder, EncoderConfig
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.dino_head import (
    SCALING,
    Balance,
    DinoHead,
    Targets,
    default_num_outputs,
    require_fields,
    still_teacher_of,
    warmed_up,
)
from raysl.methods.parts.dino_losses import across_views, koleo_loss, masked_loss
from raysl.methods.parts.dino_masks import class_and_hidden, ibot_masks, tokens_of
from raysl.methods.parts.fields import require
from raysl.methods.parts.masks import require_range
from raysl.methods.parts.signs import embedding_signs, target_signs
from raysl.methods.parts.teacher import cosine, follow, momentum_of
from raysl.methods.parts.tokens import patches_a_side, require_vit
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import each_view, require_global_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class DINOv2Config(MethodConfig):
    """Fields as DINO's, and: ibot_weight, koleo_weight: of the terms beside DINO's.

    separate_head: for the patches, else they share the class token's. mask_probability: share of
    the global views that is masked; mask_ratio: range of the shares of their patches that are then
    hidden, in blocks.
    """

    num_outputs: int | None = None
    hidden: int | None = None
    bottleneck: int = 256
    depth: int = 3
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    warmup_temperature: float = 0.04
    warmup: float = 0.06
    balance: Balance = "sinkhorn"
    centre_momentum: float = 0.9
    momentum: float | None = None
    frozen: float = 0.01
    ibot_weight: float = 1.0
    koleo_weight: float = 0.1
    separate_head: bool = True
    mask_probability: float = 0.5
    mask_ratio: tuple[float, float] = (0.1, 0.5)

    def __post_init__(self) -> None:
        require_fields(self)
        require(self, "0 or more", "ibot_weight", "koleo_weight")
        require(self, "above 0 and at most 1", "mask_probability")
        require_range("mask_ratio", self.mask_ratio, 1.0)


class DINOv2(Method):
    """Distil a moving average of the student across views and into hidden patches."""

    Config = DINOv2Config
    family = "self-distillation"
    paper = "Oquab et al., TMLR 2024, arXiv 2304.07193"
    encoders = "ViT (timm) with a class token"
    encoder_config = EncoderConfig(name="vit")
    views = VIEWS["dino_small"]
    capturable = True
    optim = OptimConfig(
        name="adamw",
        lr=3.5e-4,  # 1e-3 at batch 2048
        lr_scaling="sqrt",
        weight_decay=0.04,
        final_weight_decay=0.2,
        warmup=0.16,  # 80 epochs of 500
        final_lr=0.003,  # to 1e-6
        clip_norm=3.0,
    )
    scaling: ClassVar[Mapping[str, str]] = SCALING
    config: DINOv2Config

    def __init__(self, config: DINOv2Config, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        vit = require_vit(encoder, "DINOv2")
        if vit.global_pool != "token":
            raise ValueError(f"DINOv2 needs encoder.pool=token, not {vit.global_pool}.")
        self.side, self.num_prefix = patches_a_side(vit), int(vit.num_prefix_tokens)
        num_outputs = config.num_outputs or default_num_outputs(sizes["num_examples"])
        self.heads = nn.ModuleList(
            DinoHead(
                encoder.num_features,
                num_outputs,
                hidden=config.hidden,
                bottleneck=config.bottleneck,
                depth=config.depth,
            )
            for _ in range(1 + config.separate_head)
        )
        self.mask_token = nn.Parameter(torch.zeros(encoder.num_features))
        self.teacher = still_teacher_of(encoder)
        self.teacher_heads = still_teacher_of(self.heads)
        self.momentum = momentum_of(config.momentum, 0.994, sizes["num_steps"])
        self.class_targets, self.patch_targets = (
            Targets(num_outputs, balance=config.balance, momentum=config.centre_momentum)
            for _ in range(2)
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        c, views = self.config, batch.views
        require_global_views("DINOv2", views)
        whole = torch.cat(views[:2])  # [2B, C, S, S]
        hidden = ibot_masks(
            batch.generator,
            len(views[0]),
            side=self.side,
            num_prefix=self.num_prefix,
            probability=c.mask_probability,
            ratio=c.mask_ratio,
        )

        temperature = self.phase(batch.progress)
        with torch.no_grad():
            class_token, patches = class_and_hidden(tokens_of(self.teacher, whole), hidden)
            targets = self.class_targets(self.teacher_heads[0](class_token), temperature)
            patch_targets = self.patch_targets(self.teacher_heads[-1](patches), temperature)

        tokens = tokens_of(self.encoder, whole, hidden, self.mask_token)
        class_token, patches = class_and_hidden(tokens, hidden)  # [2B, D], [M, D]
        local = each_view(self.encoder, views[2:])  # [B, D] each
        scores = self.heads[0](torch.cat([class_token, *local]))  # [V B, K]
        dino = across_views(
            scores.unflatten(0, (len(views), -1)),
            targets.unflatten(0, (2, -1)),
            c.student_temperature,
        )
        patch_scores = self.heads[-1](patches)  # [M, K]
        ibot = masked_loss(patch_scores, patch_targets, hidden.weight, c.student_temperature)
        koleo = koleo_loss(class_token.unflatten(0, (2, -1)))
        return {
            "loss": dino + c.ibot_weight * ibot + c.koleo_weight * koleo,
            "dino": dino,
            "ibot": ibot,
            "koleo": koleo,
            **embedding_signs(unit_rows(class_token[: len(views[0])].detach().float())),
            **target_signs(targets),
        }

    def phase(self, progress: float) -> float:
        """The teacher's temperature."""
        c = self.config
        return warmed_up(progress, c.warmup_temperature, c.teacher_temperature, c.warmup)

    def before_update(self, progress: float) -> None:
        if progress < self.config.frozen:
            for head in self.heads:
                assert isinstance(head, DinoHead)
                head.rest_prototypes()

    def after_update(self, progress: float) -> None:
        momentum = cosine(progress, self.momentum, 1.0)
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_heads, self.heads, momentum)

    @property
    def evaluated(self) -> Encoder:
        return self.teacher
