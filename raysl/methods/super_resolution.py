"""Super-resolution as a pretext: the image from a coarser version of it.

    loss = mean over pixels of (x - g(f(up(down(x)))))^2

down makes the image `factor` times smaller, up brings it back to its size, f is the encoder up to
its last maps, g a decoder.

Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", CVPR 2017, arXiv 1609.04802, equation 4, with their factor of 4 and bicubic kernel. Their
adversarial and VGG losses are left out: as a pretext the task is trained with the squared error
(Konstantakos et al., Neurocomputing 2024, doi 10.1016/j.neucom.2024.129199).

Their network sees the small image and enlarges it at its end. Here the input is enlarged first, so
that objects have the size in pixels that they have when the encoder is evaluated.
"""

from dataclasses import dataclass

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
class SuperResolutionConfig(MethodConfig):
    """factor: how many times smaller the coarse image is, a side.

    decoder_width: channels of the decoder's first stage; each further one has half.
    """

    factor: float = 4.0
    decoder_width: int = 64

    def __post_init__(self) -> None:
        require(self, "above 1", "factor")
        require(self, "at least 1", "decoder_width")


class SuperResolution(Method):
    """Restore the details that a smaller version of the image lost."""

    Config = SuperResolutionConfig
    family = "generative"
    paper = "Ledig et al., CVPR 2017, arXiv 1609.04802"
    views = VIEWS["crop_flip"]
    capturable = True
    optim = OptimConfig(name="adamw", lr=1e-3, weight_decay=1e-4)
    config: SuperResolutionConfig

    def __init__(self, config: SuperResolutionConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        if round(encoder.image_size / config.factor) in (0, encoder.image_size):
            raise ValueError(
                f"method.factor={config.factor} leaves nothing to do or nothing to see of images "
                f"of {encoder.image_size} px; choose 2 to {encoder.image_size}."
            )
        self.decoder = Decoder(encoder, encoder.channels, width=config.decoder_width)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("SuperResolution", batch.views, 1)
        sharp = batch.views[0]
        restored = self.decoder(self.encoder.maps(coarsen(sharp, self.config.factor)))
        return {"loss": F.mse_loss(restored.float(), sharp)}


def coarsen(images: Tensor, factor: float) -> Tensor:
    """Images [B, C, S, S] as a version `factor` times smaller shows them, at their own size."""
    size = images.shape[-1]
    small = round(size / factor)
    smaller = F.interpolate(images, size=(small, small), mode="bicubic", antialias=True)
    return F.interpolate(smaller, size=(size, size), mode="bicubic")
