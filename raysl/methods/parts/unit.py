"""Rows as unit vectors: what cosines are made of."""

from typing import Any

import torch
from torch import Tensor

SHORTEST = 1e-12  # shorter rows are divided by this instead, as in F.normalize


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(SHORTEST)
        unit = x / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        unit, length = ctx.saved_tensors
        along = (grads[0] * unit).sum(dim=-1, keepdim=True)
        return torch.addcmul(grads[0], unit, along, value=-1) / length


def unit_rows(x: Tensor) -> Tensor:
    """F.normalize over the last dimension, with a gradient of 4 operations instead of 12.

    Each is one more kernel to start on a GPU, which beside a small encoder is what takes the time.
    """
    return _UnitRows.apply(x)
