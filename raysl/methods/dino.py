"""DINO: a student predicts the sharpened, centred output of its own moving average.

    loss = mean over global views t and all other views s of  -sum over k of P_t(k) log P_s(k)

    P_t = softmax((teacher(x_t) - centre) / teacher_temperature)     no gradient
    P_s = softmax(student(x_s) / student_temperature)
    centre  = m centre + (1 - m) mean over the batch of teacher(x)
    teacher = l teacher + (1 - l) student, l from 0.996 to 1 on a cosine

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin, "Emerging Properties in Self-Supervised
Vision Transformers", ICCV 2021, arXiv 2104.14294, algorithm 1, equations 1 to 4, appendix A to C.

Centre and Sinkhorn use the batches of all workers. Batch norm, where the encoder has it, uses each
worker's own statistics (joined ones on CUDA); the teacher, in training mode as in the authors'
code, has its own. The teacher has no stochastic depth and is evaluated.

What differs: K = 65,536 outputs belong to 1.28 million images, so K follows the pool; the hidden
layers are narrower for encoders below 342 features. The teacher's temperature stays at 0.04, the
default of the authors' code; the paper's longest runs take it to 0.07 over 30 of 300 epochs (at
100 epochs that gave 69.7 for 69.6), which leaves all targets uniform in trainings of some hundred
steps. The teacher's momentum starts below 0.996 in these, see `parts/teacher.py`. The last layer
rests for a hundredth of the training (1 of 100 epochs). Gradients are clipped by their joined norm,
the authors clip each tensor's. The learning rate is the authors' for their batch of 1024, 2e-3, at
any batch: in trainings of a few hundred steps their 5e-4 for each 256 images taught a small convnet
less than 2e-3 (large ViTs: optim.lr=5e-4, optim.lr_scaling=linear). AdamW as for ViTs also where
the encoder is a convnet, for which the authors advise SGD with a weight decay of 1e-4.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from raysl.encoder import Encoder
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
from raysl.methods.parts.dino_losses import across_views
from raysl.methods.parts.signs import embedding_signs, target_signs
from raysl.methods.parts.teacher import cosine, follow, momentum_of
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import each_view, require_global_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class DINOConfig(MethodConfig):
    """num_outputs: K. hidden, bottleneck, depth: widths and number of the head's layers before K.

    warmup_temperature rises to teacher_temperature over the share `warmup` of the training.
    balance: what keeps the targets from collapsing, beside the low temperature.
    ema: False makes the teacher a copy of the student, the paper's ablation. It collapses, unless
        the encoder's batch norm prevents it, which it does in some trainings.
    frozen: share of the training in which the last layer rests.
    """

    num_outputs: int | None = None
    hidden: int | None = None
    bottleneck: int = 256
    depth: int = 3
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    warmup_temperature: float = 0.04
    warmup: float = 0.1
    balance: Balance = "centring"
    centre_momentum: float = 0.9
    momentum: float | None = None
    ema: bool = True
    frozen: float = 0.01

    def __post_init__(self) -> None:
        require_fields(self)


class DINO(Method):
    """Distil a moving average of the student into the student, across views."""

    Config = DINOConfig
    family = "self-distillation"
    paper = "Caron et al., ICCV 2021, arXiv 2104.14294"
    views = VIEWS["dino_small"]
    capturable = True
    optim = OptimConfig(
        name="adamw",
        lr=2e-3,
        weight_decay=0.04,
        final_weight_decay=0.4,
        final_lr=5e-4,  # 1e-6
        clip_norm=3.0,
    )
    scaling: ClassVar[Mapping[str, str]] = SCALING
    config: DINOConfig

    def __init__(self, config: DINOConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        num_outputs = config.num_outputs or default_num_outputs(sizes["num_examples"])
        self.projector = DinoHead(
            encoder.num_features,
            num_outputs,
            hidden=config.hidden,
            bottleneck=config.bottleneck,
            depth=config.depth,
        )
        self.teacher = still_teacher_of(encoder)
        self.teacher_projector = still_teacher_of(self.projector)
        self.momentum = momentum_of(config.momentum, 0.996, sizes["num_steps"])
        self.targets = Targets(num_outputs, balance=config.balance, momentum=config.centre_momentum)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        views = batch.views
        require_global_views("DINO", views)
        features = each_view(self.encoder, views)  # [B, D] each
        scores = self.projector(torch.cat(features))  # [V B, K]
        with torch.no_grad():
            taught = self.teacher_projector(self.teacher(torch.cat(views[:2])))  # [2B, K]
        targets = self.targets(taught, self.phase(batch.progress))
        loss = across_views(
            scores.unflatten(0, (len(views), -1)),
            targets.unflatten(0, (2, -1)),
            self.config.student_temperature,
        )
        return {
            "loss": loss,
            **embedding_signs(unit_rows(features[0].detach().float())),
            **target_signs(targets),
        }

    def phase(self, progress: float) -> float:
        """The teacher's temperature."""
        c = self.config
        return warmed_up(progress, c.warmup_temperature, c.teacher_temperature, c.warmup)

    def before_update(self, progress: float) -> None:
        if progress < self.config.frozen:
            self.projector.rest_prototypes()

    def after_update(self, progress: float) -> None:
        momentum = cosine(progress, self.momentum, 1.0) if self.config.ema else 0.0
        follow(self.teacher, self.encoder, momentum)
        follow(self.teacher_projector, self.projector, momentum)

    @property
    def evaluated(self) -> Encoder:
        return self.teacher
