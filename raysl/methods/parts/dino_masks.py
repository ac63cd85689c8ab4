"""iBOT's masks: some global views lose blocks of patches, and a token takes their place."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Generator, Tensor

from raysl.data.images import send
from raysl.encoder import Encoder
from raysl.methods.parts.masks import NUM_BLOCKS, blockwise
from raysl.methods.parts.tokens import add_positions, embed_patches, require_vit, run_blocks
from raysl.methods.parts.workers import draw, num_workers, worker_rank

MIN_SHARE = 4 / 256  # of the smallest block: 4 of 16 x 16 patches in DINOv2's code


@dataclass(frozen=True)
class Hidden:
    """The M hidden patches of the joined first and second views, 2B images of N patches each.

    image: int64 [M], in 0 to 2B. patch: int64 [M], in 0 to N. token: int64 [M], the place among
    all 2B (P + N) tokens, with an image's P prefix tokens before its patches. weight: float [M],
    1 / (2B * hidden patches of the image): images without any count as 0 in the loss, as in the
    authors' code.
    """

    image: Tensor
    patch: Tensor
    token: Tensor
    weight: Tensor


def ibot_masks(
    generator: Generator,
    batch_size: int,
    *,
    side: int,
    num_prefix: int,
    probability: float,
    ratio: tuple[float, float],
) -> Hidden:
    """That share of the joined batch's views loses shares of their patches spread over `ratio`.

    As in DINOv2's code, whose shares are drawn within equal steps of `ratio` and here are their
    middles. Which place in the batch loses how many is the same in every step, so that M is known
    and nothing waits for the device: the images there and the blocks that they lose are others.
    """
    num_patches, workers = side * side, num_workers()
    counts = hidden_counts(2 * batch_size * workers, num_patches, probability, ratio)
    own = slice(worker_rank() * batch_size, (worker_rank() + 1) * batch_size)
    of_views = tuple(counts.reshape(-1, 2)[own].T.flatten().tolist())  # first views, then second
    order = blockwise(
        _of_both(draw(generator, batch_size, 2, NUM_BLOCKS, 4)),
        side=side,
        num_hidden=int(counts.max()),
        min_share=MIN_SHARE,
    )  # [2B, most], block by block
    image, place, before, weight = _places(
        of_views, num_prefix, num_patches, device=order.device
    )  # [M] each
    patch = order[image, place]
    return Hidden(image, patch, before + patch, weight)


def hidden_counts(
    num_views: int, num_patches: int, probability: float, ratio: tuple[float, float]
) -> np.ndarray:
    """How many patches each view of the joined batch loses, int64 [V], in a fixed mixed order."""
    low, high = ratio
    num_masked = round(probability * num_views)
    share = low + (high - low) * (np.arange(num_masked) + 0.5) / max(1, num_masked)
    counts = np.zeros(num_views, np.int64)
    counts[:num_masked] = np.floor(share * num_patches).clip(1, num_patches - 1)
    return np.random.default_rng(0).permutation(counts)


@lru_cache(maxsize=64)
def _places(
    counts: tuple[int, ...], num_prefix: int, num_patches: int, *, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each hidden patch: its image, which of the image's it is, tokens before, and its weight.

    [M] each, on the device, sent there once.
    """
    count = np.array(counts)  # [2B]
    of = np.arange(len(count)).repeat(count)  # [M], the image of each hidden patch
    nth = np.arange(len(of)) - (count.cumsum() - count).repeat(count)  # in the order of its image
    before = of * (num_prefix + num_patches) + num_prefix
    weight = (1 / (len(count) * count[of])).astype(np.float32)
    image, place, start, share = (
        send(torch.from_numpy(x), device) for x in (of, nth, before, weight)
    )
    return image, place, start, share


def tokens_of(
    encoder: Encoder,
    images: Tensor,
    hidden: Hidden | None = None,
    mask_token: Tensor | None = None,
) -> Tensor:
    """All tokens [2B, P + N, D] of images; `mask_token` [D] replaces their hidden patches."""
    vit = require_vit(encoder, "DINOv2")
    patches = embed_patches(vit, images)  # [2B, h, w, D]
    if hidden is not None and mask_token is not None:
        masks = mask_token.to(patches.dtype).expand(len(hidden.patch), -1)
        masked = patches.flatten(1, 2).index_put((hidden.image, hidden.patch), masks)
        patches = masked.view_as(patches)
    return run_blocks(vit, add_positions(vit, patches))


def class_and_hidden(tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor]:
    """Class tokens [2B, D], and the tokens of hidden patches [M, D]."""
    return tokens[:, 0], tokens.flatten(0, 1).index_select(0, hidden.token)


def _of_both(drawn: Tensor) -> Tensor:
    """Numbers of an image for its two views, [B, 2, ...], in the joined order, [2B, ...]."""
    return drawn.transpose(0, 1).flatten(0, 1)
