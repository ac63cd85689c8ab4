"""The way up of a U-Net over sparse maps, whose hidden places become learnt embeddings first."""

from collections.abc import Sequence

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from raysl.methods.parts.decoder import Enlarge, halved, sizes_between
from raysl.methods.parts.sparse import Squares


class UNet(nn.Module):
    """From sparse maps, the smallest first, up to the image; `width` channels at its start."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], channels: int, *, size: int, width: int):
        """shapes: channels and side of each map."""
        super().__init__()
        sides = [side for _, side in shapes]
        sides += sizes_between(sides[-1], size)
        widths = halved(width, len(sides))
        self.norms = nn.ModuleList(LayerNorm2d(inputs) for inputs, _ in shapes)
        self.embeddings = nn.ParameterList(
            nn.init.trunc_normal_(torch.empty(inputs, 1, 1), std=0.02) for inputs, _ in shapes
        )
        kernels = [1] + [3] * (len(shapes) - 1)  # as in the authors' code
        self.entries = nn.ModuleList(
            nn.Conv2d(inputs, width, kernel, padding=kernel // 2)
            for (inputs, _), width, kernel in zip(shapes, widths, kernels, strict=False)
        )
        self.stages = nn.ModuleList(
            Enlarge(inputs, outputs, size=side)
            for inputs, outputs, side in zip(widths, widths[1:], sides[1:], strict=False)
        )
        self.exit = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, maps: Sequence[Tensor], squares: Squares) -> Tensor:
        layers = zip(maps, self.norms, self.embeddings, self.entries, strict=True)
        entering = [
            entry(torch.where(squares.at(x.shape[2]), norm(x), embedding.to(x.dtype)))
            for x, norm, embedding, entry in layers
        ]
        x = entering[0]
        for i, stage in enumerate(self.stages, start=1):
            x = stage(x) + entering[i] if i < len(entering) else stage(x)
        drawn: Tensor = self.exit(x)
        return drawn
