"""SimSiam: from one view predict the projection of the other; no negatives and no teacher.

    loss = d(p1, z2) / 2 + d(p2, z1) / 2        d(p, z) = -cos(p, stop-gradient of z)

z is the projection of a view and p the prediction from it.

Chen, He, "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv 2011.10566,
equations 1 to 4 and section 3.

The loss has a constant solution, which the predictor and the stop-gradient keep the training from;
without either it is found (sections 4.1 and 4.2): the two switches are for that experiment only.
As in the authors' code the projector ends in a batch norm without scale and shift, and the
predictor's last layer has a bias and no norm. Their widths, 2048 and 512 in the predictor's
bottleneck, are those of ResNet-50 and a quarter of it: here the encoder's own. SGD with lr 0.05 for
a batch of 256 and a cosine without warm-up as in the paper, which also holds the predictor's
learning rate constant in its longest trainings: that is left out. Batch norm uses each worker's own
statistics on the CPU, the paper's are synchronised.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.heads import by_view, mlp
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SimSiamConfig(MethodConfig):
    """layers, width: of the projector. bottleneck: width of the predictor's hidden layer.

    predictor: False compares the projections. stop_gradient: False trains both sides of the loss.
    """

    layers: int = 3
    width: int | None = None
    bottleneck: int | None = None
    predictor: bool = True
    stop_gradient: bool = True

    def __post_init__(self) -> None:
        require(self, "at least 1", "layers", "width", "bottleneck")


class SimSiam(Method):
    """Predict the network's own projection of the other view."""

    Config = SimSiamConfig
    family = "self-distillation"
    paper = "Chen & He, CVPR 2021, arXiv 2011.10566"
    views = VIEWS["simclr_small"]
    capturable = True
    optim = OptimConfig(name="sgd", lr=0.05, lr_scaling="linear", weight_decay=1e-4, warmup=0.0)
    scaling: ClassVar[Mapping[str, str]] = {
        "width": "the encoder's number of features",
        "bottleneck": "a quarter of the projector's width",
    }
    config: SimSiamConfig

    def __init__(self, config: SimSiamConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        width = config.width or encoder.num_features
        bottleneck = config.bottleneck or max(1, width // 4)
        self.projector = nn.Sequential(
            *mlp(encoder.num_features, (width,) * config.layers),
            nn.BatchNorm1d(width, affine=False),
        )
        self.predictor = nn.Sequential()
        if config.predictor:
            self.predictor = nn.Sequential(
                *mlp(width, (bottleneck,), final_norm=True),
                nn.ReLU(inplace=True),
                nn.Linear(bottleneck, width),
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("SimSiam", batch.views, 2)
        z = by_view([self.encoder, *self.projector], batch.views)  # [2, B, D]
        p = by_view(self.predictor, z)
        rows = unit_rows(z.float())
        loss = distance(p, (rows.detach() if self.config.stop_gradient else rows).flip(0))
        return {"loss": loss, **embedding_signs(rows[0].detach())}


def distance(p: Tensor, z: Tensor) -> Tensor:
    """The mean over rows of the negative cosine of p and z, [..., D] each; -1 to 1.

    z is normalised.
    """
    return (unit_rows(p.float()) * z).sum() / -p[..., 0].numel()
