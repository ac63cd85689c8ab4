"""Crop, flips and rotation of every image as one affine `grid_sample`.

Coordinates are those of `grid_sample`: the image spans -1 to 1, pixel j of n has its centre at
(2 j + 1) / n - 1. Two differences from torchvision's RandomResizedCrop: boxes are not rounded to
whole pixels, and the area is exactly uniform in its range because the ratio is drawn among those
that fit (torchvision rejects boxes that do not, so its large areas are rarer).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.views.config import ViewConfig
from raysl.views.draws import Draws, between


class Boxes(NamedTuple):
    """Where the crops lie; half_width 1 is the whole image."""

    x: Tensor  # [N], centre, like all below
    y: Tensor
    half_width: Tensor
    half_height: Tensor


def resize(pixels: Tensor, size: int) -> Tensor:
    """Images at size x size, antialiased where that is smaller."""
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)


def random_geometry(pixels: Tensor, draws: Draws, config: ViewConfig) -> Tensor:
    """Crops, flipped and rotated: float [N, C, size, size] from float images [B, C, S, S].

    N is a multiple of B: the draws' view i shows image i modulo B. Images whose largest
    crops have more than twice the view's size are first reduced so far, so that sampling does not
    alias.
    """
    size = config.size or pixels.shape[-1]
    num_views = len(draws.area) // len(pixels)
    if config.crop_scale == (1, 1) and not (config.flip or config.vertical_flip or config.rotation):
        return resize(pixels, size).repeat(num_views, 1, 1, 1)
    largest = math.ceil(2 * size / math.sqrt(config.crop_scale[1]))
    if pixels.shape[-1] > largest:
        pixels = resize(pixels, largest)
    boxes = random_boxes(draws, config)
    degrees = None
    if config.rotation:
        degrees = between(draws.rotation, -config.rotation, config.rotation)
    return sample(
        pixels.repeat(num_views, 1, 1, 1),
        boxes,
        size,
        flip=draws.flip < config.flip,
        vertical_flip=draws.vertical_flip < config.vertical_flip,
        degrees=degrees,
    )


def random_boxes(draws: Draws, config: ViewConfig) -> Boxes:
    """Boxes inside the image: area uniform, ratio uniform in its logarithm, place uniform."""
    area = between(draws.area, *config.crop_scale)
    fits = -area.log()  # a box of this area fits the image if |log ratio| is at most this
    low, high = (_bounded(math.log(ratio), fits) for ratio in config.crop_ratio)
    ratio = between(draws.ratio, low, high).exp()
    half_width = (area * ratio).sqrt().clamp(max=1)
    half_height = (area / ratio).sqrt().clamp(max=1)
    return Boxes(
        x=between(draws.x, half_width - 1, 1 - half_width),
        y=between(draws.y, half_height - 1, 1 - half_height),
        half_width=half_width,
        half_height=half_height,
    )


def sample(
    pixels: Tensor,
    boxes: Boxes,
    size: int,
    *,
    flip: Tensor | None = None,
    vertical_flip: Tensor | None = None,
    degrees: Tensor | None = None,
) -> Tensor:
    """The boxes of the images [N, C, S, S] at size x size, bilinear.

    flip, vertical_flip: bool [N]. degrees: [N], the content turns about the box's centre,
    counter-clockwise; what then lies outside the image is its reflection.
    """
    centres = (2 * torch.arange(size, device=pixels.device) + 1) / size - 1  # [size]
    half_pixel = 1 / pixels.shape[-1]
    x = _within(centres * boxes.half_width[:, None], boxes.half_width - half_pixel)  # [N, size]
    y = _within(centres * boxes.half_height[:, None], boxes.half_height - half_pixel)
    if flip is not None:
        x = torch.where(flip[:, None], -x, x)
    if vertical_flip is not None:
        y = torch.where(vertical_flip[:, None], -y, y)
    x, y = x[:, None, :], y[:, :, None]
    if degrees is not None:
        angle = torch.deg2rad(degrees)[:, None, None]
        x, y = angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y
    grid = pixels.new_empty(len(pixels), size, size, 2)
    grid[..., 0] = x + boxes.x[:, None, None]
    grid[..., 1] = y + boxes.y[:, None, None]
    padding = "border" if degrees is None else "reflection"
    return F.grid_sample(pixels, grid, padding_mode=padding, align_corners=False)


def _within(offsets: Tensor, limit: Tensor) -> Tensor:
    """Offsets kept between the centres of the box's outer pixels: a crop sees only itself."""
    limit = limit.clamp(min=0)[:, None]
    return torch.minimum(torch.maximum(offsets, -limit), limit)


def _bounded(value: float, limit: Tensor) -> Tensor:
    """`value` moved into -limit to limit."""
    return math.copysign(1, value) * limit.clamp(max=abs(value))
