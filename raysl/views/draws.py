"""The random numbers of a batch of views."""

from functools import lru_cache
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


def either(value: float | None, other: float) -> float:
    """`value`, or `other` where it is not given."""
    return other if value is None else value


def chosen(uniform: Tensor, prob: float, prob_second: float | None, *, num_images: int) -> Tensor:
    """Which of the views [N] an augmentation changes; every second view of an image has its own
    probability. View i shows image i modulo `num_images`."""
    if prob_second is None:
        return uniform < prob
    second = torch.arange(len(uniform), device=uniform.device) // num_images % 2 == 1
    return uniform < torch.where(second, prob_second, prob)


@lru_cache(maxsize=64)
def constant(values: tuple, device: torch.device) -> Tensor:
    """Numbers as a float tensor on the device, sent there once; not to be written to."""
    return torch.tensor(values, dtype=torch.float32, device=device)
