"""SparK: masked modelling for convnets, which see visible squares only.

    loss = mean over hidden squares of the mean over their pixels of (g(f(visible)) - t)^2

f is the encoder with sparse convolutions, whose maps of every size g takes in: hidden places of
each become a learnt embedding, and a U-Net's way up draws the image. The target t are the pixels
of a square less their own mean, over their own standard deviation.

Tian, Jiang, Diao, Lin, Wang, Yuan, "Designing BERT for Convolutional Networks: Sparse and
Hierarchical Masked Modeling", ICLR 2023, arXiv 2301.03580, section 3.

As in the authors' code (github.com/keyu-tian/SparK) sparse convolutions are dense ones set to zero
in hidden places, batch norm has the statistics of visible places (each worker's own, or all
workers' where it is synchronised), and views are crops from 0.67 of the area with flips. A square
is a place of the encoder's last map, 32 x 32 pixels for the paper's 224 and 7 x 7 for our convnet
at 28; where their number does not divide a size, squares differ by a pixel. The encoder sees whole
images when it is evaluated.

What differs: the decoder enlarges by nearest neighbours, which fits any size, and not by transposed
convolutions; its norms and those before it are group and layer norm, independent of the split over
workers; AdamW, for batches of hundreds, takes the place of LAMB at batch 4096.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Generator, Tensor

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.sparse import Squares, only, square_of
from raysl.methods.parts.stages import maps_of, require_stages
from raysl.methods.parts.unet import UNet
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import draw
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class SparKConfig(MethodConfig):
    """mask_ratio: share of the squares that are hidden.

    decoder_width: channels of the decoder's first stage; each further one has half.
    """

    mask_ratio: float = 0.6
    decoder_width: int | None = None

    def __post_init__(self) -> None:
        require(self, "between 0 and 1", "mask_ratio")
        require(self, "at least 1", "decoder_width")


class SparK(Method):
    """Draw the hidden squares of an image from maps of the visible ones."""

    Config = SparKConfig
    family = "generative"
    paper = "Tian et al., ICLR 2023, arXiv 2301.03580"
    views = replace(VIEWS["crop_flip"], crop_scale=(0.67, 1.0))
    # The authors' weight decay, clipping and, for ResNets, second beta.
    optim = OptimConfig(
        lr=1e-3, weight_decay=0.04, final_weight_decay=0.2, betas=(0.9, 0.95), clip_norm=5.0
    )
    encoders = "convnet, ResNets and ConvNeXts (timm)"
    scaling: ClassVar[Mapping[str, str]] = {
        "decoder_width": "half of the encoder's number of features, at most 512"
    }
    config: SparKConfig

    def __init__(self, config: SparKConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        require_stages(encoder, "SparK")
        image = torch.zeros(1, encoder.channels, encoder.image_size, encoder.image_size)
        with torch.no_grad():
            shapes = [tuple(m.shape[1:3]) for m in maps_of(encoder.eval(), image)]
        encoder.train()
        self.side = shapes[0][1]  # squares a side
        if self.side < 2:
            raise ValueError(
                f"SparK needs a last map of 2 x 2 places or more, not the 1 that {encoder.name!r} "
                f"has of {encoder.image_size} px; set views.size to larger images."
            )
        # Squares of equal size on every map: nothing has to ask the device how large they are.
        scale, rest = divmod(encoder.image_size, self.side)
        self.capturable = not rest and scale.bit_count() == 1
        num_squares = self.side**2
        visible = round(num_squares * (1 - config.mask_ratio))
        self.num_visible = min(num_squares - 1, max(1, visible))
        width = config.decoder_width or max(1, min(512, encoder.num_features // 2))
        self.decoder = UNet(shapes, encoder.channels, size=encoder.image_size, width=width)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("SparK", batch.views, 1)
        images = batch.views[0]
        squares = self.random_squares(len(images), batch.generator)
        drawn = self.draw_from(images, squares)
        return {"loss": hidden_loss(drawn.float(), images, squares)}

    def random_squares(self, batch_size: int, generator: Generator) -> Squares:
        """Equally many visible squares for each image."""
        noise = draw(generator, batch_size, self.side**2)
        rank = noise.argsort(dim=1).argsort(dim=1)
        visible = (rank < self.num_visible).unflatten(1, (self.side, self.side))
        return Squares(visible, self.num_visible)

    def draw_from(self, images: Tensor, squares: Squares) -> Tensor:
        """The decoder's image [B, C, S, S] from the visible squares of these."""
        with only(squares, self.encoder):
            maps = maps_of(self.encoder, images * squares.at(images.shape[2]))
        drawn: Tensor = self.decoder(maps, squares)
        return drawn


def hidden_loss(drawn: Tensor, images: Tensor, squares: Squares) -> Tensor:
    """The squared error of hidden squares; each image must have equally many."""
    pixels, member = cut(images, squares.side)  # [B, side, side, P] and [side, side, P]
    count = member.sum(dim=2)
    mean = (pixels * member).sum(dim=3) / count  # [B, side, side]
    centred = (pixels - mean[:, :, :, None]) * member
    variance = centred.square().sum(dim=3) / (count - 1).clamp_min(1)
    hidden = ~squares.visible
    share = hidden / count / hidden.sum()  # of a pixel in the loss

    mean, scale, share = (
        squares.spread(x, images.shape[2])
        for x in (mean, (variance + 1e-6).rsqrt(), share)  # the authors' epsilon
    )
    return ((drawn - (images - mean) * scale).square() * share).sum()


def cut(images: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Squares as rows of pixels [B, side, side, P], and which of these belong to them.

    Where squares differ in size, the rows of the smaller ones have strangers at their ends.
    """
    channels, size = images.shape[1:3]
    square = square_of(size, side, images.device)
    number = torch.arange(side, device=images.device)
    first = (number * size + side - 1) // side  # place of each square
    place = first[:, None] + torch.arange(-(-size // side), device=images.device)  # [side, L]
    inside = place < size
    place = place.clamp_max(size - 1)
    inside = inside & (square[place] == number[:, None])
    chosen = place.flatten()
    rows = images.index_select(2, chosen).index_select(3, chosen)
    rows = rows.unflatten(3, place.shape).unflatten(2, place.shape)  # [B, C, side, L, side, L]
    member = inside[:, None, :, None] & inside[None, :, None, :]  # [side, side, L, L]
    return (
        rows.permute(0, 2, 4, 1, 3, 5).flatten(3),
        member[:, :, None].expand(-1, -1, channels, -1, -1).flatten(2).to(images.dtype),
    )
