"""Features, extracted once for each split, and the values that every protocol reads and returns."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from raysl.data.images import Images, send
from raysl.data.prefetch import reading_ahead
from raysl.encoder import Encoder
from raysl.views import ViewConfig, eval_view


@dataclass(frozen=True, eq=False)
class Labelled:
    """Features (float32 [N, D]) and labels (int64 [N]) of one split, on one device."""

    features: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a protocol returns.

    scores: by split, [N, num_classes] each, the largest wins; -inf is never predicted.
    chosen: hyper-parameters that it selected on val, by name.
    details: how it got there, as plain values.
    """

    scores: Mapping[str, Tensor]
    chosen: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


def extract(
    encoder: Encoder,
    images: Images,
    views: ViewConfig,
    *,
    device: torch.device | str,
    batch_size: int,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Tensor:
    """The features of all images in their order, float32 [N, D] on `device`.

    The encoder, which is on `device` already, runs in eval mode and gets its modes back. With
    "bfloat16" it runs under autocast.
    """
    device = torch.device(device)
    features = torch.empty(len(images), encoder.num_features, device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
    batches = torch.arange(len(images)).split(batch_size)
    with (
        evaluating(encoder),
        torch.inference_mode(),
        autocast,
        reading_ahead(images, batches, device=device) as ready,
    ):
        for indices in batches:
            batch = eval_view(send(ready.read(indices), device), views)  # [B, C, S, S]
            features[indices[0] : indices[-1] + 1] = encoder(batch)  # [B, D]
    num_broken = int((~features.isfinite().all(dim=1)).sum())
    if num_broken:
        raise ValueError(
            f"The encoder gives infinite or undefined features for {num_broken} of the "
            f"{len(images)} images of {images.name}: the training diverged; lower its learning "
            "rate or train in float32."
        )
    return features


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; after it every submodule has the mode that it had."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.train(training)  # some drop what they computed from earlier weights


def top_accuracy(scores: Tensor, labels: Tensor, k: int) -> float:
    """Percent of the rows that `top_correct` calls right."""
    return float(top_correct(scores, labels, k).double().mean() * 100)


def top_correct(scores: Tensor, labels: Tensor, k: int) -> Tensor:
    """Whether each row's label is among its k largest scores, of equal ones the first, bool [N].

    Counted rather than sorted, so that ties and classes without a score (-inf, never right) fall
    the same way on every device.
    """
    own = scores.gather(1, labels[:, None])  # [N, 1]
    earlier = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(dim=1)  # [N]
    return (rank < k) & own[:, 0].isfinite()
