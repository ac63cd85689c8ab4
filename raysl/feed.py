"""From stored images to what a method sees of one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.data.images import Images
from raysl.methods import Batch
from raysl.recipe import Recipe
from raysl.rng import generator
from raysl.views import make_views


def make_batch(
    recipe: Recipe,
    images: Images,
    index: Tensor,
    labels: Tensor | None,
    *,
    step: int,
    progress: float,
    device: torch.device | str,
    purpose: str,
) -> Batch:
    """Read, augment and normalise the images at `index`; random only in (seed, purpose, step)."""
    pixels = images.read(index).to(device, non_blocking=True)  # uint8 [B, C, S, S]
    randomness = generator(recipe.seed, purpose, step, device=device)
    with torch.no_grad():
        views = make_views(pixels, recipe.views, randomness)
        if recipe.channels_last:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    index = index.to(device)
    return Batch(views, index, None if labels is None else labels[index], progress, randomness)


@contextmanager
def autocast(recipe: Recipe, device: torch.device | str) -> Iterator[None]:
    """bfloat16 autocast where the recipe asks for it."""
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        yield
