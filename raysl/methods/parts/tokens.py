"""timm's ViTs in steps, for methods that mask: patches, positions, blocks, norm.

The steps are those of timm's `VisionTransformer.forward_features`, of which nothing is copied:
they call the model's own parts.
"""

import math

import torch
from timm.layers import PatchEmbed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from raysl.encoder import Encoder

VIT_ONLY = "a ViT, such as encoder.name=vit or vit_tiny_patch16_224"


def require_vit(encoder: Encoder, method: str) -> VisionTransformer:
    """The encoder's ViT, or a sentence that the method needs one.

    Hybrids of convolutions and attention are refused too, as are those with an attention pool:
    its parameters have no part in predicting patches.
    """
    vit = encoder.body
    plain = (
        isinstance(vit, VisionTransformer)
        and isinstance(vit.patch_embed, PatchEmbed)
        and vit.dynamic_img_size
        and vit.attn_pool is None
    )
    if not plain:
        raise ValueError(f"{method} masks patches and needs {VIT_ONLY}, not {encoder.name!r}.")
    return vit


def num_patches(vit: VisionTransformer) -> int:
    """Patches of an image of the model's own size; a square number."""
    return int(vit.patch_embed.num_patches)


def patches_a_side(vit: VisionTransformer) -> int:
    """The root of their number."""
    side = math.isqrt(num_patches(vit))
    assert side * side == num_patches(vit), "raysl's images are square"
    return side


def embed_patches(vit: VisionTransformer, images: Tensor) -> Tensor:
    """The patches of the images before they have a position, [B, h, w, D]."""
    patches: Tensor = vit.patch_embed(images)
    assert patches.ndim == 4, "raysl builds its ViTs with dynamic_img_size"
    return patches


def add_positions(vit: VisionTransformer, patches: Tensor) -> Tensor:
    """Prefix tokens (class and registers, if any) and patches with positions, [B, P + N, D]."""
    tokens: Tensor = vit._pos_embed(patches)
    return tokens


def keep(vit: VisionTransformer, tokens: Tensor, kept: Tensor) -> Tensor:
    """Prefix tokens and the kept patches only: int64 [B, K] of N gives [B, P + K, D]."""
    prefix = tokens[:, : vit.num_prefix_tokens]
    return torch.cat([prefix, chosen(patches_of(vit, tokens), kept)], dim=1)


def chosen(rows: Tensor, index: Tensor) -> Tensor:
    """Rows [B, N, D] at an image's own index, int64 [B, K]: [B, K, D]."""
    return rows.gather(1, index[:, :, None].expand(-1, -1, rows.shape[2]))


def run_blocks(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """The tokens after all blocks and the final norm, [B, P + N, D].

    With pool=avg timm's final norm comes after the pooling; here each token gets it.
    """
    tokens = vit.blocks(vit.norm_pre(tokens))
    normed: Tensor = vit.fc_norm(vit.norm(tokens))  # one of the two is the identity
    return normed


def patches_of(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """Without the prefix tokens."""
    return tokens[:, vit.num_prefix_tokens :]


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images [B, C, S, S] as rows of pixels of their patches, [B, N, p p C], row by row."""
    batch_size, channels, size, _ = images.shape
    side = size // patch_size
    cut = images.reshape(batch_size, channels, side, patch_size, side, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch_size, side * side, -1)
