"""Which passes each method's algorithm needs: what `method_cost.py` holds its steps against.

A pass is the encoder, or the decoder that a reconstruction is made with, on so many images, with
or without backward pass. What is no pass of a network on images does not count as needed: heads,
losses, negatives, queues, moving averages, Sinkhorn, masks, rotations and the tokenizer.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raysl.methods import Batch, Method
from raysl.methods.parts.heads import has_batch_norm
from raysl.methods.parts.masks import num_hidden
from raysl.methods.parts.rotations import rotate
from raysl.methods.parts.stages import maps_of
from raysl.methods.parts.tokens import (
    add_positions,
    embed_patches,
    keep,
    num_patches,
    patches_of,
    run_blocks,
)
from raysl.methods.parts.views import global_views
from raysl.methods.pirl import shuffled_tiles


@dataclass(frozen=True)
class Pass:
    """`network` of the images [n, C, S, S]; trained: with its backward pass."""

    network: Callable[[Tensor], Tensor]
    images: Tensor
    trained: bool = True

    def run(self) -> None:
        with torch.set_grad_enabled(self.trained):
            outputs = self.network(self.images)
        if self.trained:
            outputs.backward(torch.ones_like(outputs))


Needed = Callable[[Method, Batch], list[Pass]]


def every_view(method: Method, batch: Batch) -> list[Pass]:
    """All views, those of one size in one pass."""
    views, shared = batch.views, global_views(batch.views)
    groups = [list(shared), list(views[len(shared) :])]
    return [Pass(method.encoder, torch.cat(group)) for group in groups if group]


def one_by_one(method: Method, batch: Batch) -> list[Pass]:
    """Each view by itself where batch norm must not see two views of an image together."""
    if not has_batch_norm(method.encoder):
        return every_view(method, batch)
    return [Pass(method.encoder, view) for view in batch.views]


def one_by_one_with_teacher(method: Method, batch: Batch) -> list[Pass]:
    """The same by the student and by the teacher."""
    passes = one_by_one(method, batch)
    return [*passes, *(replace(each, trained=False) for each in passes)]


def with_teacher(method: Method, batch: Batch) -> list[Pass]:
    """All views by the student, those of full size by the teacher."""
    taught = Pass(method.encoder, torch.cat(list(global_views(batch.views))), trained=False)
    return [*every_view(method, batch), taught]


def one_each(method: Method, batch: Batch) -> list[Pass]:
    """The first view by the student, the second by the teacher."""
    first, second = batch.views
    return [Pass(method.encoder, first), Pass(method.encoder, second, trained=False)]


def four_turns(method: Method, batch: Batch) -> list[Pass]:
    return [Pass(method.encoder, rotate(view)) for view in batch.views]


def view_and_tiles(method: Method, batch: Batch) -> list[Pass]:
    tiles = shuffled_tiles(batch.views[1], method.tile, batch.generator).flatten(0, 1)
    return [Pass(method.encoder, batch.views[0]), Pass(method.encoder, tiles)]


def with_decoder(method: Method, batch: Batch) -> list[Pass]:
    return [Pass(lambda images: method.decoder(method.encoder.maps(images)), batch.views[0])]


def with_unet(method: Method, batch: Batch) -> list[Pass]:
    """A dense pass of the encoder, and the decoder of maps of all stages."""
    squares = method.random_squares(len(batch.views[0]), batch.generator)
    return [
        Pass(lambda images: method.decoder(maps_of(method.encoder, images), squares), view)
        for view in batch.views
    ]


def visible_and_decoder(method: Method, batch: Batch) -> list[Pass]:
    """MAE: the ViT on visible patches, the decoder on all."""
    vit, images = method.encoder.body, batch.views[0]
    patches = torch.arange(num_patches(vit), device=images.device).expand(len(images), -1)
    hidden = num_hidden(num_patches(vit), method.config.mask_ratio)
    visible, hidden = patches[:, hidden:], patches[:, :hidden]

    def network(images: Tensor) -> Tensor:
        tokens = keep(vit, add_positions(vit, embed_patches(vit, images)), visible)
        return method.decoder(run_blocks(vit, tokens), visible, hidden)

    return [Pass(network, images)]


def all_patches(method: Method, batch: Batch) -> list[Pass]:
    """BEiT: the ViT on all patches, hidden or not."""
    vit = method.encoder.body
    return [
        Pass(lambda images: run_blocks(vit, add_positions(vit, embed_patches(vit, images))), view)
        for view in batch.views
    ]


def context_and_blocks(method: Method, batch: Batch) -> list[Pass]:
    """I-JEPA: the student on the context, the predictor for each block, the teacher on all."""
    vit, images = method.encoder.body, batch.views[0]
    context, targets = method.blocks_of(batch)
    num_targets = targets.shape[1]

    def network(images: Tensor) -> Tensor:
        tokens = keep(vit, add_positions(vit, embed_patches(vit, images)), context)
        tokens = patches_of(vit, run_blocks(vit, tokens)).repeat_interleave(num_targets, dim=0)
        where = context.repeat_interleave(num_targets, dim=0)
        return method.predictor(tokens, where, targets.flatten(0, 1))

    (whole,) = all_patches(method, batch)
    return [Pass(network, images), Pass(whole.network, images, trained=False)]


NEEDED: dict[str, Needed] = {
    "rotation": four_turns,
    "colorization": with_decoder,
    "super_resolution": with_decoder,
    "denoising": with_decoder,
    "mae": visible_and_decoder,
    "spark": with_unet,
    "beit": all_patches,
    "ijepa": context_and_blocks,
    "npid": every_view,
    "pirl": view_and_tiles,
    "simclr": every_view,
    "alignment_uniformity": every_view,
    "moco": one_each,
    "mocov3": one_by_one_with_teacher,
    "ressl": one_each,
    "barlow_twins": every_view,
    "vicreg": every_view,
    "byol": one_by_one_with_teacher,
    "simsiam": one_by_one,
    "dino": with_teacher,
    "dinov2": with_teacher,
    "deepcluster": every_view,
    "deepclusterv2": every_view,
    "sela": every_view,
    "swav": every_view,
    "scratch": every_view,
    "label_augmentation": four_turns,
    "supervised_source": every_view,
}
