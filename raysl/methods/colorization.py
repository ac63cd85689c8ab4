"""Colorization: the colours of an image from its brightness.

    loss = mean over pixels of |chroma(x) - g(f(brightness(x)))|^2 / 2

brightness is Y = 0.299 R + 0.587 G + 0.114 B, given to the encoder in all three channels; chroma
is (0.564 (B - Y), 0.713 (R - Y)) (ITU-R BT.601); f is the encoder up to its last maps, g a decoder.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, arXiv 1603.08511, equation 1.

The paper goes on to classify quantised colours, rare ones with more weight, because the squared
error gives greyish pictures; here no picture is wanted, and the study of low-data SSL trains with
the squared error (Konstantakos et al., Neurocomputing 2024, doi 10.1016/j.neucom.2024.129199). The
paper's lightness and ab are of CIE Lab, which needs pixels in 0-1; these are linear, so that they
are brightness and chroma of normalised pixels too (with one views.mean and views.std for all
channels). Views keep the colours of the image.

The encoder is evaluated on colour images. Grey ones give the first layer's three channels equal
gradients, so its answer to chroma remains that of its initial weights.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.decoder import Decoder
from raysl.methods.parts.fields import require
from raysl.methods.parts.views import require_views
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class ColorizationConfig(MethodConfig):
    """decoder_width: channels of the decoder's first stage; each further one has half."""

    decoder_width: int = 64

    def __post_init__(self) -> None:
        require(self, "at least 1", "decoder_width")


class Colorization(Method):
    """Tell every pixel's colour from the grey image."""

    Config = ColorizationConfig
    family = "generative"
    paper = "Zhang et al., ECCV 2016, arXiv 1603.08511"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=1e-3, weight_decay=1e-4)
    config: ColorizationConfig

    def __init__(self, config: ColorizationConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        if encoder.channels != 3:
            raise ValueError(
                f"Colorization needs images of 3 channels, red, green and blue, not "
                f"{encoder.channels}; choose another method, such as denoising."
            )
        self.decoder = Decoder(encoder, 2, width=config.decoder_width)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("Colorization", batch.views, 1)
        brightness, chroma = split_colours(batch.views[0])
        guess = self.decoder(self.encoder.maps(brightness.expand(-1, 3, -1, -1)))  # [B, 2, S, S]
        return {"loss": F.mse_loss(guess.float(), chroma)}


def split_colours(images: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness [B, 1, S, S] and chroma [B, 2, S, S] of RGB images [B, 3, S, S]."""
    red, green, blue = images.split(1, dim=1)
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return brightness, torch.cat([0.564 * (blue - brightness), 0.713 * (red - brightness)], dim=1)
