"""A frozen random encoder: the floor that any pretraining has to leave behind.

No training; the probes see the features of the freshly initialised encoder. Random convolutional
features are far from useless (Jarrett et al., ICCV 2009), so this floor belongs into every study.
"""

from torch import Tensor

from raysl.methods.method import Batch, Method, MethodConfig
from raysl.optim import OptimConfig
from raysl.views import VIEWS


class RandomEncoder(Method):
    """Evaluate the encoder as it was initialised."""

    Config = MethodConfig
    family = "baseline"
    paper = "the random-features baseline; Jarrett et al., ICCV 2009"
    trains_on = "nothing"
    views = VIEWS["none"]
    optim = OptimConfig()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("a frozen random encoder is never trained")
