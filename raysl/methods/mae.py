"""MAE: a ViT sees a quarter of an image's patches, a light decoder paints the others.

    loss = mean over hidden patches i and their pixels of (prediction_i - target_i)^2
    target_i = (pixels_i - mean(pixels_i)) / sqrt(var(pixels_i) + 1e-6)

He, Chen, Xie, Li, Dollár, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
arXiv 2111.06377, section 3 and table 8.

The learning rate of 2.4e-3 at batch 4096 is taken to other batches by the square root, as for Adam.
The encoder is timm's ViT as it is: its positions and weights start as timm's (the authors' fixed
sin-cos positions and Xavier weights are kept for the decoder). The authors' decoder of 8 blocks of
512 features stays the same for all their encoders; at ViT-L that is a third of the blocks and half
of the width, which is the rule here. Only hidden patches go through the last layer, as only they
are in the loss. The paper evaluates the class token and finds the mean of the patches as good
(appendix A.1); the default here is the mean, as in the authors' fine-tuning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from raysl.encoder import Encoder, EncoderConfig
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.fields import require
from raysl.methods.parts.masks import num_hidden, random_split
from raysl.methods.parts.narrow_vit import HEAD, NarrowViT, require_size, share_of
from raysl.methods.parts.tokens import (
    add_positions,
    chosen,
    embed_patches,
    keep,
    num_patches,
    patches_a_side,
    patchify,
    require_vit,
    run_blocks,
)
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import draw
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class MAEConfig(MethodConfig):
    """mask_ratio: share of the patches that is hidden.

    decoder_width, decoder_depth: features and blocks. normalise_pixels: by each patch's own mean
    and deviation.
    """

    mask_ratio: float = 0.75
    decoder_width: int | None = None
    decoder_depth: int | None = None
    normalise_pixels: bool = True

    def __post_init__(self) -> None:
        require(self, "between 0 and 1", "mask_ratio")
        require_size(self, "decoder")


class MAE(Method):
    """Reconstruct the pixels of hidden patches from the visible ones."""

    Config = MAEConfig
    family = "generative"
    paper = "He et al., CVPR 2022, arXiv 2111.06377"
    encoders = "ViT (timm)"
    encoder_config = EncoderConfig(name="vit", pool="avg")
    views = replace(VIEWS["crop_flip"], crop_scale=(0.2, 1.0))
    capturable = True
    optim = OptimConfig(
        lr=6e-4, lr_scaling="sqrt", weight_decay=0.05, betas=(0.9, 0.95), warmup=0.05
    )
    scaling: ClassVar[Mapping[str, str]] = {
        "decoder_width": "half of the encoder's features, up to a multiple of 32",
        "decoder_depth": "a third of the encoder's blocks",
    }
    config: MAEConfig

    def __init__(self, config: MAEConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        vit = require_vit(encoder, "MAE")
        self.patch_size = int(vit.patch_embed.patch_size[0])
        self.decoder = NarrowViT(
            vit.embed_dim,
            self.patch_size**2 * encoder.channels,
            side=patches_a_side(vit),
            width=config.decoder_width or share_of(vit.embed_dim, 2, step=HEAD),
            depth=config.decoder_depth or share_of(len(vit.blocks), 3),
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("MAE", batch.views, 1)
        (images,) = batch.views
        vit = self.encoder.body
        total = num_patches(vit)
        noise = draw(batch.generator, len(images), total)
        visible, hidden = random_split(noise, total - num_hidden(total, self.config.mask_ratio))
        tokens = add_positions(vit, embed_patches(vit, images))
        tokens = run_blocks(vit, keep(vit, tokens, visible))  # [B, P + K, D]
        predicted = self.decoder(tokens, visible, hidden)  # [B, M, p p C]
        target = chosen(patchify(images, self.patch_size), hidden).float()
        if self.config.normalise_pixels:
            target = normalised(target)
        return {"loss": reconstruction_loss(predicted.float(), target)}


def normalised(pixels: Tensor) -> Tensor:
    """Each patch's pixels [..., p p C] with mean 0 and deviation 1 (0 where they are all one)."""
    centred = pixels - pixels.mean(dim=-1, keepdim=True)
    # One pixel has no deviation of its own.
    variance = pixels.var(dim=-1, keepdim=True, correction=min(1, pixels.shape[-1] - 1))
    return centred / (variance + 1e-6).sqrt()


def reconstruction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """The mean squared error of hidden patches, [B, M, p p C] each."""
    return (predicted - target).square().mean()
