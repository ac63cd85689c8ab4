"""From stored images to the views that a method trains on, and to the one it is evaluated on."""

import torch
from torch import Tensor

from raysl.views.colour import random_colour
from raysl.views.config import ViewConfig
from raysl.views.draws import constant, draw
from raysl.views.filters import random_blur, random_solarize
from raysl.views.geometry import random_geometry, resize


@torch.no_grad()
def make_views(images: Tensor, config: ViewConfig, generator: torch.Generator) -> list[Tensor]:
    """`num_views` normalised views, float [B, C, size, size] each, of images uint8 [B, C, S, S].

    Random numbers come from `generator` alone, which is on the images' device; the same seed
    gives the same views on the same kind of device and for the same batch size.
    """
    assert images.dtype == torch.uint8, images.dtype
    draws = draw(config.num_views * len(images), generator)
    with torch.autocast(images.device.type, enabled=False):
        views = random_geometry(images.float() / 255, draws, config)  # [V B, C, size, size]
        views = random_colour(views, draws, config)
        views = random_blur(views, draws, config)
        views = random_solarize(views, draws, config)
        views = normalise(views, config)
    return list(views.chunk(config.num_views))


@torch.no_grad()
def eval_view(images: Tensor, config: ViewConfig) -> Tensor:
    """The images as the encoder is evaluated: resized if `size` asks for it, and normalised."""
    assert images.dtype == torch.uint8, images.dtype
    pixels = images.float() / 255
    return normalise(resize(pixels, config.size or pixels.shape[-1]), config)


def normalise(pixels: Tensor, config: ViewConfig) -> Tensor:
    """Pixels in 0-1 less `mean`, over `std`; overwrites them."""
    num_channels = pixels.shape[1]
    for name in ("mean", "std"):
        if len(getattr(config, name)) not in (1, num_channels):
            raise ValueError(
                f"{name} has {len(getattr(config, name))} values and the images {num_channels} "
                f"channels; give {name} one value, or one for each channel."
            )
    mean, std = (constant(v, pixels.device)[:, None, None] for v in (config.mean, config.std))
    return pixels.sub_(mean).div_(std)
