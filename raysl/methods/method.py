"""The contract between the training loop and a method: a Batch goes in, a loss comes out."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor, nn

from raysl.encoder import Encoder
from raysl.optim import OptimConfig
from raysl.views import ViewConfig


@dataclass(frozen=True)
class Batch:
    """What a method sees of one step.

    views: float [B, C, S, S] each, augmented and normalised, this worker's share of the batch.
    index: int64 [B], positions in the training images, for memory banks.
    labels: int64 [B] for methods that train on labels; None for all others.
    progress: 0 at the first step, 1 at the end of the last.
    generator: for randomness inside the method; on the views' device.
    """

    views: list[Tensor]
    index: Tensor
    labels: Tensor | None
    progress: float
    generator: Generator


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """The parameters of a method, with the paper's defaults."""


class Method(nn.Module):
    """What is trained around an encoder: heads, teacher, queues and the loss.

    All state is parameters and buffers, so that a state dict resumes it exactly. A method knows
    nothing of devices, optimisers, workers' ranks or trackers.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    paper: ClassVar[str]
    # The images that the loop feeds: the unlabelled pool, the labelled images, or none at all.
    trains_on: ClassVar[Literal["pool", "labels", "nothing"]] = "pool"
    views: ClassVar[ViewConfig]
    optim: ClassVar[OptimConfig]

    def __init__(
        self, config: MethodConfig, encoder: Encoder, *, num_examples: int, num_classes: int
    ):
        """`num_classes` is 0 for methods that train without labels."""
        super().__init__()
        self.config = config
        self.encoder = encoder

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The scalar "loss" to minimise, plus scalars to log. This is what DDP wraps."""
        raise NotImplementedError(type(self).__name__)

    def before_update(self, progress: float) -> None:
        """Between backward and the optimiser's step."""

    def after_update(self, progress: float) -> None:
        """After the optimiser's step: moving averages, queues, assignments."""

    @property
    def evaluated(self) -> Encoder:
        """The encoder whose features are evaluated: the teacher, where the paper uses it."""
        return self.encoder

    @property
    def head(self) -> nn.Module | None:
        """The method's own classifier on `evaluated`'s features, if it has one."""
        return None
