"""How exactly matrices are multiplied: fast in a training on a GPU, in full where that matters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor


@contextmanager
def full_precision(z: Tensor) -> Iterator[None]:
    """No autocast on z's device and no TensorFloat-32: forward products are those of float32.

    Without it even float32 matrices are multiplied in bfloat16. Their backward passes come later,
    and on a GPU take TensorFloat-32.
    """
    with torch.autocast(z.device.type, enabled=False), _products("highest", z.device):
        yield


def at_least_float32(x: Tensor) -> Tensor:
    """What a loss is worked out in: float32, float64 where the network has that."""
    return x if x.dtype == torch.float64 else x.float()


@contextmanager
def fast_products(device: torch.device | str) -> Iterator[None]:
    """TensorFloat-32 in float32 matrix products on a GPU, as PyTorch's convolutions have it there.

    It keeps 10 of 23 bits of each factor and sums in float32.
    """
    with _products("high", torch.device(device)):
        yield


@contextmanager
def _products(precision: Literal["highest", "high"], device: torch.device) -> Iterator[None]:
    """Of the whole process, while it lasts; on a processor nothing changes."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
