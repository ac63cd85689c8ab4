"""Losses in full precision inside of a bfloat16 forward pass."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(z: Tensor) -> AbstractContextManager[None]:
    """No autocast on z's device: without it even float32 matrices are multiplied in bfloat16."""
    return torch.autocast(z.device.type, enabled=False)
