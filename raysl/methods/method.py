"""The contract between the training loop and a method: a Batch goes in, a loss comes out."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Generator, Tensor, nn

from raysl.encoder import Encoder, EncoderConfig
from raysl.optim import OptimConfig
from raysl.views import ViewConfig

Family = Literal[
    "generative",
    "contrastive",
    "redundancy reduction",
    "self-distillation",
    "clustering",
    "baseline",
]
TrainsOn = Literal["pool", "labels", "source", "nothing"]


@dataclass(frozen=True)
class Batch:
    """What a method sees of one step.

    views: float [B, C, S, S] each, augmented and normalised, this worker's share of the batch;
        local views, which are smaller, come last.
    index: int64 [B], positions in the training images, for memory banks.
    labels: int64 [B] for methods that train on labels; None for all others.
    progress: 0 at the first step, 1 at the end of the last.
    generator: for randomness inside the method, on the views' device; see `parts.workers.draw`.
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
    family: ClassVar[Family]
    paper: ClassVar[str]
    # The images that the loop feeds: the unlabelled pool, the labelled images, those of another
    # labelled data set, or none at all.
    trains_on: ClassVar[TrainsOn] = "pool"
    # What a recipe has where it gives none.
    encoder_config: ClassVar[EncoderConfig] = EncoderConfig()
    views: ClassVar[ViewConfig]
    optim: ClassVar[OptimConfig]
    # Which encoders it works with; its constructor refuses others in a sentence.
    encoders: ClassVar[str] = "any"
    # Fields that are None by default, and how they then follow from numbers of images and updates.
    scaling: ClassVar[Mapping[str, str]] = {}
    # True where every update of a phase is the same operations on the device: forward reads nothing
    # of progress but its phase, keeps nothing in Python for later, and never waits. It can then be
    # a CUDA graph.
    capturable: bool = False
    # False where the loss needs what was stored of an image before: no early stopping then.
    has_validation_loss: ClassVar[bool] = True

    def __init__(
        self,
        config: MethodConfig,
        encoder: Encoder,
        *,
        num_examples: int,
        num_classes: int,
        batch_size: int,
        num_steps: int,
    ):
        """`num_steps` updates on `num_examples` images, `batch_size` each over all workers.

        `num_classes` is 0 for methods that train without labels.
        """
        super().__init__()
        self.config = config
        self.encoder = encoder

    @classmethod
    def uses_labels(cls) -> bool:
        """Whether batches carry labels: of the user's images, or of the other data set."""
        return cls.trains_on in ("labels", "source")

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The scalar "loss" to minimise, plus scalars to log. This is what DDP wraps."""
        raise NotImplementedError(type(self).__name__)

    def phase(self, progress: float) -> Hashable:
        """What a capturable method's operations depend on; a graph is recorded for each phase."""
        return None

    def before_forward(self, epoch: int) -> None:
        """Before each update, after `epoch` passes over the training images: clustering."""

    def before_update(self, progress: float) -> None:
        """Between backward and the optimiser's step."""

    def after_update(self, progress: float) -> None:
        """After the optimiser's step: moving averages, normalised weights."""

    @property
    def evaluated(self) -> Encoder:
        """The encoder whose features are evaluated: the teacher, where the paper uses it."""
        return self.encoder

    @property
    def head(self) -> nn.Module | None:
        """The method's own classifier on `evaluated`'s features, if it has one."""
        return None
