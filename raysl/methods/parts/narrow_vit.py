"""A narrow ViT that predicts something of hidden patches from visible ones."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from raysl.methods.parts.fields import require

HEAD = 32  # features of an attention head, as in MAE's decoder


class NarrowViT(nn.Module):
    """MAE's decoder and I-JEPA's predictor: `depth` blocks of `width` features.

    Visible tokens are embedded; a mask token stands for each hidden patch; both get the fixed
    sin-cos position of their patch. Prefix tokens have none. Tokens have no other order, so that
    nothing is sorted back into place.
    """

    positions: Tensor  # [N, width]

    def __init__(self, num_features: int, outputs: int, *, side: int, width: int, depth: int):
        super().__init__()
        self.embed = nn.Linear(num_features, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.register_buffer("positions", build_sincos2d_pos_embed([side, side], dim=width))
        heads = max(1, width // HEAD)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """What is predicted of the hidden patches, [B, M, outputs].

        tokens: [B, P + K, num_features], any prefix tokens and the visible patches.
        visible, hidden: int64 [B, K] and [B, M], which patches these are.
        """
        num_prefix = tokens.shape[1] - visible.shape[1]
        given = self.embed(tokens) + F.pad(self.positions[visible], (0, 0, num_prefix, 0))
        asked = self.mask_token + self.positions[hidden]
        x = self.blocks(torch.cat([given, asked], dim=1))[:, -hidden.shape[1] :]
        predicted: Tensor = self.predict(self.norm(x))
        return predicted


def share_of(whole: int, divisor: int, *, step: int = 1) -> int:
    """whole / divisor, rounded up to a multiple of `step`."""
    return -(-whole // (divisor * step)) * step


def require_size(config: Any, name: str) -> None:
    """A sentence unless a config's fields NAME_width and NAME_depth are absent or make a ViT."""
    width = getattr(config, f"{name}_width")
    if width is not None and (width < 4 or (width > HEAD and width % HEAD) or width % 4):
        raise ValueError(
            f"method.{name}_width must be a multiple of {HEAD} (below {HEAD}, of 4), not {width}."
        )
    require(config, "at least 1", f"{name}_depth")
