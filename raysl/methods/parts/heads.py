"""Projection and prediction heads."""

from collections.abc import Sequence

from torch import nn


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


def require_widths(name: str, widths: Sequence[int]) -> None:
    """A sentence unless `widths` are those of one or more layers."""
    if not widths or min(widths) < 1:
        raise ValueError(f"method.{name} needs at least one width, such as 512,128.")
