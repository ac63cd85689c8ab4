"""From stored images to what a method sees of one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.data.images import Images, send
from raysl.methods import Batch
from raysl.recipe import Recipe
from raysl.rng import generator
from raysl.views import make_views

VIEWS, METHOD = "views", "method"  # purposes of the generators; that of the views has the rank too


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
    """Read, augment and normalise the images at `index`; random only in (seed, purpose, step).

    The views of each worker have a purpose of their own; the method's generator is the same on all.
    """
    pixels = send(images.read(index), device)  # uint8 [B, C, S, S]
    index = send(index, device)
    return Batch(
        views_of(recipe, pixels, generator(recipe.seed, purpose, step, device=device)),
        index,
        None if labels is None else labels[index],
        progress,
        generator(recipe.seed, METHOD, step, device=device),
    )


@torch.no_grad()
def views_of(recipe: Recipe, pixels: Tensor, randomness: torch.Generator) -> list[Tensor]:
    """Views of stored images uint8 [B, C, S, S], laid out as the encoder wants them."""
    views = make_views(pixels, recipe.views, randomness)
    if recipe.channels_last:
        views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    return views


@contextmanager
def autocast(recipe: Recipe, device: torch.device | str) -> Iterator[None]:
    """bfloat16 autocast where the recipe asks for it."""
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        yield
