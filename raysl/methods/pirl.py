"""PIRL: an image and its jigsaw puzzle both find the image's row in a memory bank.

    loss = jigsaw * L(g(puzzle)) + (1 - jigsaw) * L(f(view))
    b_i <- normalise( m b_i + (1 - m) f(view) )    after each step

L is instance discrimination against the bank b, see `parts.instances`. A puzzle is nine tiles of a
view; g encodes each, projects it, and projects the nine in a random order, joined, again.

Misra, van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", CVPR 2020,
arXiv 1912.01991, section 2 and equation 5; details as in the authors' VISSL.

The paper takes NCE with 32,000 negatives for the 1.3 million images of ImageNet, 1 in 40. Here it
is as many of the pool, but not below NPID's 4,096 and no more than there are images. loss=softmax
(InfoNCE, VISSL's cross_entropy) is over all images. As in VISSL NCE has NPID's Z instead of a sum
for each image (equation 4). The SGD is VISSL's, 0.03 for a batch of 256.

The paper cuts a grid of 3 x 3 cells of 85 pixels and takes a tile of 64 at random from each. Here
cells are a third of the view, and tiles about three quarters of a cell, a multiple of a ViT's
patches: 8 pixels of a view of 32. The encoder must take tiles that small; convnets and ViTs do.
The puzzle is of a second view with a crop of its own as in VISSL, but all of its tiles have the
same colours, and its crop follows the view recipe (VISSL: at least 0.6 of the area). Images and
tiles have their own batch statistics, each worker its own. A new image's row is random until it
was seen, so there is no validation loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Generator, Tensor, nn

from raysl.encoder import Encoder
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.instances import InstanceBank, Loss, require_instances
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import draw
from raysl.optim import OptimConfig
from raysl.views import VIEWS

SIDE = 3  # tiles
TILE_OF_CELL = 64 / 85  # pixels in the paper
NUM_NEGATIVES_RULE = "1 in 40 images, from 4,096 to 32,000, but no more than there are images"


@dataclass(frozen=True, kw_only=True)
class PIRLConfig(MethodConfig):
    """temperature: divides cosines. width: of the features in the bank.

    bank_momentum: what a row keeps of itself in each update.
    loss: "nce" with num_negatives drawn images, or the "softmax" over all.
    jigsaw: weight of the puzzle's loss, the paper's lambda; the view has the rest.
    """

    temperature: float = 0.07
    width: int = 128
    bank_momentum: float = 0.5
    loss: Loss = "nce"
    num_negatives: int | None = None
    jigsaw: float = 0.5

    def __post_init__(self) -> None:
        require_instances(self)
        require(self, "from 0 to 1", "jigsaw")


class PIRL(Method):
    """Tell an image from all others by its view and by shuffled tiles of it."""

    Config = PIRLConfig
    family = "contrastive"
    paper = "Misra and van der Maaten, CVPR 2020, arXiv 1912.01991"
    views = VIEWS["simclr_small"]
    capturable = True
    optim = OptimConfig(name="sgd", lr=0.03, lr_scaling="linear", weight_decay=1e-4)
    encoders = "that take tiles of a quarter of the view: convnets, ResNets, ViTs of small patches"
    scaling: ClassVar[Mapping[str, str]] = {"num_negatives": NUM_NEGATIVES_RULE}
    has_validation_loss = False
    config: PIRLConfig

    def __init__(self, config: PIRLConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        self.tile = tile_size(encoder)
        require_tiles(encoder, self.tile)
        self.view_head = nn.Linear(encoder.num_features, config.width)  # f
        self.tile_head = nn.Linear(encoder.num_features, config.width)  # g, of each tile
        self.puzzle_head = nn.Linear(SIDE * SIDE * config.width, config.width)  # g, of all
        num_negatives = config.num_negatives
        if config.loss == "nce" and num_negatives is None:
            num_negatives = default_negatives(sizes["num_examples"])
        self.instances = InstanceBank(
            sizes["num_examples"],
            config.width,
            temperature=config.temperature,
            num_negatives=num_negatives,
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("PIRL", batch.views, 2)
        view, other = batch.views
        tiles = shuffled_tiles(other, self.tile, batch.generator)  # [B, 9, C, T, T]
        parts = self.tile_head(self.encoder(tiles.flatten(0, 1)))  # [9B, D]
        g = self.puzzle_head(parts.unflatten(0, tiles.shape[:2]).flatten(1))
        f = self.view_head(self.encoder(view))
        both = unit_rows(torch.stack([g, f]).float())  # [2, B, D]
        negatives = self.instances.negatives(batch.generator)
        puzzle_loss, view_loss = self.instances(both, batch.index, negatives)
        f = both[1].detach()
        if self.training:
            self.instances.bank.mix(batch.index, f, self.config.bank_momentum)
        share = self.config.jigsaw
        return {
            "loss": share * puzzle_loss + (1 - share) * view_loss,
            "puzzle_loss": puzzle_loss,
            "view_loss": view_loss,
            **embedding_signs(f),
        }


def default_negatives(num_examples: int) -> int:
    """By NUM_NEGATIVES_RULE."""
    return min(max(4096, min(32_000, num_examples // 40)), num_examples)


def shuffled_tiles(views: Tensor, tile: int, generator: Generator) -> Tensor:
    """A tile from a random place in each cell, an order for each image: [B, 9, C, tile, tile]."""
    batch_size, _, size, _ = views.shape
    cell = size // SIDE
    drawn = draw(generator, batch_size, 3, SIDE * SIDE)  # [B, 3, 9]
    order = drawn[:, 0].argsort(dim=1)  # [B, 9]: which cell comes where
    slack = (drawn[:, 1:] * (cell - tile + 1)).long()  # [B, 2, 9]
    top = order // SIDE * cell + slack[:, 0]
    left = order % SIDE * cell + slack[:, 1]
    reach = torch.arange(tile, device=views.device)
    rows = (top[:, :, None] + reach)[:, :, :, None]  # [B, 9, tile, 1]
    columns = (left[:, :, None] + reach)[:, :, None, :]  # [B, 9, 1, tile]
    image = torch.arange(batch_size, device=views.device)[:, None, None, None]
    return views[image, :, rows, columns].permute(0, 1, 4, 2, 3)


def tile_size(encoder: Encoder) -> int:
    """Pixels of a tile: of the cell's the paper's share, in whole patches of a ViT."""
    step = 1
    if isinstance(encoder.body, VisionTransformer):
        step = encoder.body.patch_embed.patch_size[0]
    cell = encoder.image_size // SIDE
    return max(step, round(cell * TILE_OF_CELL / step) * step)


def require_tiles(encoder: Encoder, tile: int) -> None:
    """A sentence unless a tile fits into a cell and the encoder takes it."""
    cell, reason = encoder.image_size // SIDE, "they are smaller than its patches"
    if tile <= cell:
        try:
            with torch.no_grad():
                encoder.eval()(torch.zeros(1, encoder.channels, tile, tile))
            return
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        finally:
            encoder.train()
    raise ValueError(
        f"PIRL cuts views of {encoder.image_size} px into cells of {cell} px and needs an encoder "
        f"that takes their tiles, not {encoder.name!r} ({reason}); choose convnet or resnet18, or "
        "set encoder.patch_size lower or views.size higher."
    )
