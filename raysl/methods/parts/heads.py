"""Projection and prediction heads."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysl.encoder import Encoder


def mlp(num_features: int, widths: Sequence[int], *, final_norm: bool = False) -> nn.Sequential:
    """Linear layers of the given widths with batch norm and ReLU between them.

    The last layer is linear without bias; `final_norm` adds a batch norm after it.
    """
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        layers.append(nn.Linear(num_features, width, bias=False))
        if not last or final_norm:
            layers.append(nn.BatchNorm1d(width))
        if not last:
            layers.append(nn.ReLU(inplace=True))
        num_features = width
    return nn.Sequential(*layers)


def by_view(layers: Iterable[nn.Module], views: Sequence[Tensor] | Tensor) -> Tensor:
    """An encoder, a head or both on V views of B images, [V, B, D], so that batch norms see each
    view by itself; other layers, and encoders without batch norm, take all at once.
    """
    outputs: Any = views
    for layer in layers:
        if has_batch_norm(layer):
            outputs = torch.stack([layer(view) for view in outputs])
        elif isinstance(layer, Encoder):
            outputs = layer(torch.cat(tuple(outputs))).unflatten(0, (len(outputs), -1))
        else:
            outputs = layer(outputs)
    found: Tensor = outputs
    return found


def has_batch_norm(module: nn.Module) -> bool:
    """Whether it treats an image differently beside other images."""
    return any(isinstance(part, _BatchNorm) for part in module.modules())


def require_widths(name: str, widths: Sequence[int]) -> None:
    """A sentence unless `widths` are those of one or more layers."""
    if not widths or min(widths) < 1:
        raise ValueError(f"method.{name} needs at least one width, such as 512,128.")
