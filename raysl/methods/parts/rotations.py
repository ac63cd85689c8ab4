"""The four rotations of an image by quarter turns, which lose no pixel of a square."""

import torch
from torch import Tensor

NUM_ROTATIONS = 4


def rotate(images: Tensor) -> Tensor:
    """Square images [B, C, S, S] turned by 0, 90, 180 and 270 degrees, [4B, C, S, S].

    All images come first as they are, then all turned once, and so on.
    """
    turned = torch.cat([images.rot90(turns, (2, 3)) for turns in range(NUM_ROTATIONS)])
    if images.is_contiguous(memory_format=torch.channels_last):  # a turn swaps the strides
        turned = turned.contiguous(memory_format=torch.channels_last)
    return turned


def rotation_labels(batch_size: int, *, like: Tensor) -> Tensor:
    """The number of quarter turns of each of `rotate`'s images, int64 [4B], on `like`'s device."""
    return torch.arange(NUM_ROTATIONS, device=like.device).repeat_interleave(batch_size)
