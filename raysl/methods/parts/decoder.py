"""A convolutional decoder: from an encoder's last maps, of whatever stride, back to pixels.

Its norms are group norms, so that no image depends on which others its worker holds.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder

LEAST_WIDTH = 16  # channels of the last stage, where halving stops


class Decoder(nn.Module):
    """Stages that double the size and halve the channels, from `encoder.maps` to the image.

    It sees nothing but the maps: what it is to draw has to go through the encoder.
    """

    def __init__(self, encoder: Encoder, channels: int, *, width: int):
        super().__init__()
        inputs, start = map_shape(encoder)
        sizes = sizes_between(start, encoder.image_size)
        widths = halved(width, len(sizes) + 1)
        self.entry = nn.Conv2d(inputs, width, 1)
        self.stages = nn.Sequential(
            *(
                Enlarge(*pair, size=size)
                for *pair, size in zip(widths, widths[1:], sizes, strict=False)
            )
        )
        self.exit = nn.Conv2d(widths[-1], channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, D, h, w] to an image [B, channels, S, S]."""
        drawn: Tensor = self.exit(self.stages(self.entry(maps)))
        return drawn


class Enlarge(nn.Module):
    """Resize a map to `size`, then two 3x3 convolutions with their norms."""

    def __init__(self, inputs: int, outputs: int, *, size: int):
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(8, inputs), inputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(math.gcd(8, outputs), outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        enlarged = F.interpolate(x, size=(self.size, self.size), mode="nearest")
        y: Tensor = self.layers(enlarged)
        return y


def map_shape(encoder: Encoder) -> tuple[int, int]:
    """Channels and side of `encoder.maps`; a sentence where they leave parameters out.

    Parameters that the maps do not need, such as layers behind the pooling, would never be
    trained, and workers that train together would wait for their gradients.
    """
    training = encoder.training
    image = torch.zeros(1, encoder.channels, encoder.image_size, encoder.image_size)
    with torch.enable_grad():
        maps = encoder.eval().maps(image)
        wanted = [p for p in encoder.parameters() if p.requires_grad]
        found = torch.autograd.grad(maps.sum(), wanted, allow_unused=True)
    encoder.train(training)
    if any(gradient is None for gradient in found):
        raise ValueError(
            f"A decoder needs an encoder without layers behind its last maps, not "
            f"{encoder.name!r}; choose convnet, a ResNet, a ConvNeXt or a ViT."
        )
    return maps.shape[1], maps.shape[2]


def sizes_between(start: int, end: int) -> list[int]:
    """Sizes that about double from above `start` to `end`: from 4 to 28 they are 7, 14, 28."""
    sizes: list[int] = []
    while end > start:
        sizes.insert(0, end)
        end = (end + 1) // 2
    return sizes


def halved(width: int, count: int) -> list[int]:
    """`width`, half of it and so on down to 16."""
    return [max(min(LEAST_WIDTH, width), width >> i) for i in range(count)]
