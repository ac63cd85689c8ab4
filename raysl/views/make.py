"""From stored images to the views that a method trains on, and to the one it is evaluated on."""

from dataclasses import replace

import torch
from torch import Tensor

from raysl.precision import full_precision
from raysl.views.colour import random_colour
from raysl.views.config import ViewConfig, local_size
from raysl.views.draws import constant, draw, either
from raysl.views.filters import random_blur, random_solarize
from raysl.views.geometry import random_geometry, resize


@torch.no_grad()
def make_views(images: Tensor, config: ViewConfig, generator: torch.Generator) -> list[Tensor]:
    """The normalised views, float [B, C, size, size] each, of images uint8 [B, C, S, S].

    `num_views` at the config's size, then `num_local_views` at its local size. Random numbers come
    from `generator` alone, which is on the images' device; the same seed gives the same views on
    the same kind of device and for the same batch size.
    """
    assert images.dtype == torch.uint8, images.dtype
    size = config.size or images.shape[-1]
    pixels = images.float() / 255
    with full_precision(pixels):
        views = _views(pixels, config, config.num_views, generator)
        if config.num_local_views:
            local = replace(
                config,
                size=local_size(config, size),
                crop_scale=config.local_scale,
                blur_prob=either(config.blur_prob_local, config.blur_prob),
                jitter_prob_second=None,
                grayscale_prob_second=None,
                blur_prob_second=None,
                solarize_prob_second=None,
            )
            views += _views(pixels, local, config.num_local_views, generator)
    return views


def _views(
    pixels: Tensor, config: ViewConfig, num_views: int, generator: torch.Generator
) -> list[Tensor]:
    """Views of one size, [B, C, size, size] each."""
    draws = draw(num_views * len(pixels), generator)
    views = random_geometry(pixels, draws, config)  # [V B, C, size, size]
    views = random_colour(views, draws, config, num_images=len(pixels))
    views = random_blur(views, draws, config, num_images=len(pixels))
    views = random_solarize(views, draws, config, num_images=len(pixels))
    return list(normalise(views, config).chunk(num_views))


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
