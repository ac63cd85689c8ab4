"""Sobel filters before an encoder: gradients of the grey image instead of colours."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder


def filter_with_sobel(encoder: Encoder) -> None:
    """From now on the encoder filters its images first, wherever it is called.

    Its state dict then has the filters too, so that an encoder without them does not load it.
    """
    across = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    encoder.register_buffer("sobel", torch.stack([across, across.T])[:, None])
    encoder.register_forward_pre_hook(_filtered)


def _filtered(encoder: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    filters = encoder.sobel
    assert isinstance(filters, Tensor)
    return (gradients(inputs[0], filters),)


def gradients(images: Tensor, filters: Tensor) -> Tensor:
    """Both gradients of the grey images in the first two channels of [B, C, S, S], zeros behind.

    Of images with one channel the norm of the two.
    """
    channels = images.shape[1]
    found = F.conv2d(images.mean(dim=1, keepdim=True), filters, padding=1)  # [B, 2, S, S]
    if channels == 1:
        return found.norm(dim=1, keepdim=True)
    return F.pad(found, (0, 0, 0, 0, 0, channels - 2))
