"""BYOL: from one view predict what a slow copy of the network makes of the other; no negatives.

    loss = d(p1, t2) + d(p2, t1)        d(p, t) = |p - t|^2 = 2 - 2 cos(p, t)

p is the prediction from the student's projection of a view, t the teacher's projection of the
other, both normalised. The teacher follows the student as a moving average whose momentum rises
to 1 by a cosine.

Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020, arXiv 2006.07733, equations 1 and 2 and
appendix A; the authors' code is in google-deepmind/deepmind-research, byol.

The loss has a constant solution, which the predictor and the slow teacher keep the training from;
without the predictor it is found (table 5b): `predictor=False` is for that experiment only.
The momentum starts at 0.996 as for the paper's 1,000 epochs (0.99 for its 100 and 300), and lower
in short trainings. Its hidden width of 4096 is twice ResNet-50's: here twice the encoder's. AdamW
at a small batch stands for LARS at 4096 images. Batch norm uses each worker's own statistics on the
CPU, the paper's are synchronised.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import by_view, mlp
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.teacher import MOMENTUM_RULE, cosine, follow, momentum_of, teacher_of
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class BYOLConfig(MethodConfig):
    """momentum: of the teacher at the start; 1 at the end.

    hidden, width: of projector and predictor. predictor: False compares the projections.
    stop_gradient: False compares with the student's own projections and trains both sides.
    """

    momentum: float | None = None
    hidden: int | None = None
    width: int = 256
    predictor: bool = True
    stop_gradient: bool = True

    def __post_init__(self) -> None:
        require(self, "from 0 to 1", "momentum")
        require(self, "at least 1", "hidden", "width")


class BYOL(Method):
    """Predict a slow teacher's projection of the other view."""

    Config = BYOLConfig
    family = "self-distillation"
    paper = "Grill et al., NeurIPS 2020, arXiv 2006.07733"
    views = VIEWS["byol_small"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=1e-4)
    scaling: ClassVar[Mapping[str, str]] = {
        "momentum": MOMENTUM_RULE,
        "hidden": "twice the encoder's number of features",
    }
    config: BYOLConfig

    def __init__(self, config: BYOLConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        hidden, width = config.hidden or 2 * encoder.num_features, config.width
        self.projector = mlp(encoder.num_features, (hidden, width))
        self.predictor = mlp(width, (hidden, width)) if config.predictor else nn.Sequential()
        self.teacher = teacher_of(nn.Sequential(encoder, *self.projector))
        self.momentum = momentum_of(config.momentum, 0.996, sizes["num_steps"])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("BYOL", batch.views, 2)
        z = by_view([self.encoder, *self.projector], batch.views)  # [2, B, D]
        p, t = by_view(self.predictor, z), z
        if self.config.stop_gradient:
            with torch.no_grad():
                t = by_view(self.teacher, batch.views)
        loss = 2 * regression_loss(p, t.flip(0))
        return {"loss": loss, **embedding_signs(unit_rows(z[0].detach().float()))}

    def after_update(self, progress: float) -> None:
        momentum = cosine(progress, self.momentum, 1.0)
        follow(self.teacher, nn.Sequential(self.encoder, self.projector), momentum)


def regression_loss(p: Tensor, t: Tensor) -> Tensor:
    """The mean over rows of |p - t|^2 of normalised p and t, [..., D] each; 0 to 4."""
    return F.mse_loss(unit_rows(p.float()), unit_rows(t.float())) * p.shape[-1]
