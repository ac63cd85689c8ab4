"""The random numbers of a batch of views."""

from typing import NamedTuple

import torch
from torch import Tensor


class Draws(NamedTuple):
    """Uniform numbers in [0, 1), one of each per view; the field says what it decides.

    All are drawn whatever the config, so changing one augmentation leaves the others' choices as
    they were.
    """

    area: Tensor  # [N], like all below
    ratio: Tensor
    x: Tensor
    y: Tensor
    flip: Tensor
    vertical_flip: Tensor
    rotation: Tensor
    jitter: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor


def draw(num_views: int, generator: torch.Generator) -> Draws:
    """One batch of draws, on the generator's device."""
    shape = (len(Draws._fields), num_views)
    return Draws(*torch.rand(shape, generator=generator, device=generator.device))


def between(uniform: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Uniform in [low, high) from uniform in [0, 1)."""
    return low + (high - low) * uniform


def constant(values: object, device: torch.device) -> Tensor:
    """Numbers as a float tensor on the device, without waiting for it."""
    return torch.tensor(values, dtype=torch.float32).to(device, non_blocking=True)
