"""What the features of an encoder are worth: each split's are extracted once, read by protocols."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from raysl.config import unknown_name
from raysl.data.images import Images
from raysl.encoder import Encoder
from raysl.evaluation import knn, linear
from raysl.evaluation.features import (
    Labelled,
    Predictions,
    evaluating,
    extract,
    top_correct,
)
from raysl.views import ViewConfig

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which protocols, and their parameters.

    knn_k: neighbours that vote; knn_temperature: divides cosines in the exponent of a vote.
    linear_penalties: tried by the probe, of the objective in `raysl.evaluation.linear`, which is
        a sum over images; 1 / penalty is scikit-learn's C.
    batch_size: images at a time through the encoder.
    diagnostics_examples: images that the collapse diagnostics look at.
    """

    protocols: tuple[str, ...] = ("linear", "knn")
    knn_k: int = 20
    knn_temperature: float = 0.07
    linear_penalties: tuple[float, ...] = (3e3, 1e3, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
    batch_size: int = 512
    diagnostics_examples: int = 2048

    def __post_init__(self) -> None:
        for name in self.protocols:
            if name not in PROTOCOLS:
                raise ValueError(unknown_name("protocol", name, PROTOCOLS))
        if not self.linear_penalties or not min(self.linear_penalties) > 0:
            raise ValueError(
                f"linear_penalties must be one or more numbers above 0 such as 100,10,1, not "
                f"{','.join(map(str, self.linear_penalties)) or 'none'}."
            )
        if not self.knn_temperature > 0:
            raise ValueError(f"knn_temperature must be above 0, not {self.knn_temperature}.")
        for name, least in (("knn_k", 1), ("batch_size", 1), ("diagnostics_examples", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}.")


class FeatureProtocol(Protocol):
    """A module that turns the features of the splits into predictions.

    VERSION is raised when equal features no longer give equal predictions.
    """

    VERSION: int

    def predict(
        self,
        train: Labelled,
        held_out: Mapping[str, Labelled],
        *,
        num_classes: int,
        config: EvaluationConfig,
    ) -> Predictions: ...


PROTOCOLS: dict[str, FeatureProtocol] = {"linear": linear, "knn": knn}


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """metrics: "val/linear_top1" in percent, ...; protocols: the version of each; details: more.

    correct: "linear_top1", ... -> which test images were right, bool [N]; empty without test.
    """

    metrics: dict[str, float]
    protocols: dict[str, int]
    details: dict[str, Any]
    correct: dict[str, Tensor]


def evaluate(
    encoder: Encoder,
    *,
    train: Images,
    val: Images,
    test: Images | None,
    views: ViewConfig,
    config: EvaluationConfig,
    device: torch.device | str,
    head: nn.Module | None = None,
    precision: Precision = "float32",
) -> Evaluation:
    """Accuracy of each protocol that learns from `train`, selects on `val`, on val and test.

    `head` is the method's own classifier, if it has one; its accuracy is SPLIT/head_top1.

    Metrics are SPLIT/PROTOCOL_top1, _top5 with more than 5 classes, and PROTOCOL_X for a
    hyper-parameter X that the protocol chose ("linear_penalty"). Without `test` nothing of it is
    read. Images without labels are an error.
    """
    splits = {"train": train, "val": val} | ({} if test is None else {"test": test})
    num_classes = len(train.classes)
    for split, images in splits.items():
        require_labels(images, split, num_classes)
    read = {
        split: Labelled(
            extract(
                encoder,
                images,
                views,
                device=device,
                batch_size=config.batch_size,
                precision=precision,
            ),
            images.labels.to(device),
        )
        for split, images in splits.items()
    }
    labelled = read.pop("train")
    evaluation = Evaluation(metrics={}, protocols={}, details={}, correct={})

    def grade(name: str, split: str, scores: Tensor, *, k: int) -> None:
        correct = top_correct(scores, read[split].labels, k)  # [N]
        evaluation.metrics[f"{split}/{name}_top{k}"] = float(correct.double().mean() * 100)
        if split == "test" and k == 1:
            evaluation.correct[f"{name}_top{k}"] = correct.cpu()

    if head is not None:
        with evaluating(head), torch.inference_mode():
            for split, held_out in read.items():
                grade("head", split, head(held_out.features), k=1)
    for name in config.protocols:
        protocol = PROTOCOLS[name]
        predictions = protocol.predict(labelled, read, num_classes=num_classes, config=config)
        for split, scores in predictions.scores.items():
            for k in (1, 5) if num_classes > 5 else (1,):
                grade(name, split, scores, k=k)
        evaluation.metrics.update({f"{name}_{x}": v for x, v in predictions.chosen.items()})
        evaluation.protocols[name] = protocol.VERSION
        evaluation.details[name] = dict(predictions.details)
    return evaluation


def require_labels(images: Images, split: str, num_classes: int) -> None:
    """A sentence where an image of the split has no label, or there is no image at all."""
    if len(images) == 0:
        raise ValueError(f"The {split} split of {images.name} has no images; give it at least one.")
    num_missing = int(((images.labels < 0) | (images.labels >= num_classes)).sum())
    if num_missing:
        raise ValueError(
            f"{num_missing} of the {len(images)} {split} images of {images.name} have no label "
            f"among the {num_classes} classes; evaluate on labelled images only, or import the "
            "data again with their labels."
        )


__all__ = [
    "PROTOCOLS",
    "Evaluation",
    "EvaluationConfig",
    "FeatureProtocol",
    "Precision",
    "evaluate",
]
