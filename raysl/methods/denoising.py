"""Denoising autoencoder: the clean image from a corrupted one.

    loss = mean over pixels of (x - g(f(c(x))))^2

c sets a share of the pixels to zero and adds Gaussian noise, f is the encoder up to its last maps,
g a decoder.

Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising
Autoencoders", ICML 2008, sections 2.2 and 2.3; Gaussian noise and the squared error for real
numbers are those of their "Stacked Denoising Autoencoders", JMLR 11, 2010.

The papers train one layer after the other, here all are trained at once. A pixel is hidden in all
of its channels, which would otherwise give each other away. Hidden pixels are zeros of normalised
images, so the mean colour where the papers' are black. The papers chose the share for each data
set; 0.25 is the middle of those that they tried.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.decoder import Decoder
from raysl.methods.parts.fields import require
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import draw
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(MethodConfig):
    """masking: share of the pixels that are hidden.

    noise_std: of Gaussian noise on top, in the units of normalised pixels (1 is views.std).
    decoder_width: channels of the decoder's first stage; each further one has half.
    """

    masking: float = 0.25
    noise_std: float = 0.0
    decoder_width: int = 64

    def __post_init__(self) -> None:
        require(self, "from 0 to below 1", "masking")
        require(self, "0 or more", "noise_std")
        require(self, "at least 1", "decoder_width")


class Denoising(Method):
    """Restore hidden and noisy pixels."""

    Config = DenoisingConfig
    family = "generative"
    paper = "Vincent et al., ICML 2008"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=1e-3, weight_decay=1e-4)
    config: DenoisingConfig

    def __init__(self, config: DenoisingConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.decoder = Decoder(encoder, encoder.channels, width=config.decoder_width)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("Denoising", batch.views, 1)
        clean = batch.views[0]
        c = self.config
        corrupted = corrupt(clean, batch.generator, masking=c.masking, noise_std=c.noise_std)
        restored = self.decoder(self.encoder.maps(corrupted))  # [B, C, S, S]
        return {"loss": F.mse_loss(restored.float(), clean)}


def corrupt(images: Tensor, generator: Generator, *, masking: float, noise_std: float) -> Tensor:
    """Images [B, C, S, S] with a share of their pixels hidden, under Gaussian noise."""
    batch_size, channels, *size = images.shape
    hidden = draw(generator, batch_size, 1, *size) < masking
    corrupted = images.masked_fill(hidden, 0.0)
    if noise_std > 0:
        # Box and Muller: two uniform numbers in [0, 1) make a normal one, the same for any split.
        radius, angle = draw(generator, batch_size, 2 * channels, *size).chunk(2, dim=1)
        normal = (-2 * torch.log1p(-radius)).sqrt() * torch.cos(2 * math.pi * angle)
        corrupted = corrupted + noise_std * normal.to(images.dtype)
    return corrupted
