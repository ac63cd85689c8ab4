"""Supervised pretraining on another labelled data set: the arm of transfer learning.

    loss = -log softmax(W f(x) + b)[label], x and label from the source, with label smoothing

Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?", NeurIPS
2014, arXiv 1411.1792: features that were learnt on one task, read out on another.

The source is a store's `train` split. Its images are resized to the size of the user's, and
normalised as the recipe normalises the user's, so that the encoder meets one kind of input. The
classifier on the source's classes is discarded. Batch norm uses each worker's own statistics.
There is no validation loss: the images to select on have other classes than the source.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from torch import Tensor, nn

from raysl.data.images import Images, Resized
from raysl.data.store import load_splits
from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.classification import classify_views
from raysl.methods.parts.fields import require
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SupervisedSourceConfig(MethodConfig):
    """data: a labelled store, or sklearn:digits. digest: its digest, as `raysl data info` says, so
    that the recipe names what it trains on. label_smoothing: as for scratch.
    """

    data: str | None = None
    digest: str | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        require(self, "from 0 to below 1", "label_smoothing")


class SupervisedSource(Method):
    """Train encoder and classifier on the labels of another data set."""

    Config = SupervisedSourceConfig
    family = "baseline"
    paper = "Yosinski et al., NeurIPS 2014, arXiv 1411.1792"
    trains_on = "source"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=2e-3, weight_decay=0.05)
    scaling: ClassVar[Mapping[str, str]] = {
        "data": "no default: the store of another labelled data set",
        "digest": "no default: that of the store",
    }
    has_validation_loss = False
    config: SupervisedSourceConfig

    def __init__(self, config: SupervisedSourceConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.classifier = nn.Linear(encoder.num_features, sizes["num_classes"])

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return classify_views(self.logits, batch, label_smoothing=self.config.label_smoothing)

    def logits(self, view: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.encoder(view))  # [B, num_classes]
        return logits


def source_images(
    config: SupervisedSourceConfig, *, shape: tuple[int, int, int] | None = None
) -> Images:
    """The images of the source, if it is the data that the recipe means.

    shape: (C, S, S) of the user's images, to whose size they are brought.
    """
    images = _open(config)
    if shape is None or images.shape == shape:
        return images
    (channels, *_), (wanted, size, _) = images.shape, shape
    if channels != wanted:
        colour = "grey" if wanted == 1 else "rgb"
        raise ValueError(
            f"The images of {config.data} have {channels} channel(s) and yours have {wanted}; "
            f"import it again with --colour {colour}."
        )
    return Resized(images, size)


@lru_cache(maxsize=4)
def _open(config: SupervisedSourceConfig) -> Images:
    if config.data is None:
        raise ValueError(
            "supervised_source needs another labelled data set; set method.data to its store and "
            "method.digest to its digest, which `raysl data info STORE` says."
        )
    splits = load_splits(config.data)
    if splits.digest != config.digest:
        raise ValueError(
            f"{config.data} holds data {splits.digest} and the recipe names "
            f"{config.digest or 'none'}; set "
            f"method.digest={splits.digest} if this is the data that you mean."
        )
    if len(splits.train) < 2 or bool((splits.train.labels < 0).any()):
        raise ValueError(
            f"The training images of {config.data} are not all labelled; import it from class "
            "folders, or with its labels."
        )
    return splits.train
