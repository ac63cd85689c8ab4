"""iBOT's masks: some global views lose blocks of patches, and a token takes their place."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from raysl.data.images import send
from raysl.encoder import Encoder
from raysl.methods.parts.masks import NUM_BLOCKS, blockwise
from raysl.methods.parts.tokens import add_positions, embed_patches, require_vit, run_blocks
from raysl.methods.parts.workers import draw
from raysl.rng import generator as generator_of

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
    """A view is masked with this probability; the share of its patches is then uniform in `ratio`.

    How many patches each image loses is drawn on the CPU, so that M is known without a wait for
    the device; the generator's seed changes with every step.
    """
    num_patches, num_images = side * side, 2 * batch_size
    low, high = ratio
    most = min(num_patches - 1, max(1, int(high * num_patches)))
    counting = generator_of(generator.initial_seed(), "hidden patches")
    coin, share = _of_both(draw(counting, batch_size, 2, 2)).numpy().T  # [2B] each
    count = np.floor((low + (high - low) * share) * num_patches).clip(1, most).astype(np.int64)
    count[coin >= probability] = 0
    of = np.arange(num_images).repeat(count)  # [M], the image of each hidden patch
    nth = np.arange(len(of)) - (count.cumsum() - count).repeat(count)  # in the order of its image
    prefixes = of * (num_prefix + num_patches) + num_prefix
    weight = torch.from_numpy((1 / (num_images * count[of])).astype(np.float32))
    where = torch.from_numpy(np.stack([of, nth, prefixes]))

    order = blockwise(
        _of_both(draw(generator, batch_size, 2, NUM_BLOCKS, 4)),
        side=side,
        num_hidden=most,
        min_share=MIN_SHARE,
    )  # [2B, most], block by block
    image, place, before = send(where, order.device)  # [M] each
    patch = order[image, place]
    return Hidden(image, patch, before + patch, send(weight, order.device))


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
