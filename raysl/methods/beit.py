"""BEiT: blocks of an image's patches are hidden, a ViT names their visual tokens.

    loss = - mean over hidden patches i of log p(token_i | the image with its blocks hidden)

p is a softmax over the vocabulary, token_i what a tokenizer makes of patch i of the whole image.

Bao, Dong, Piao, Wei, "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, arXiv 2106.08254,
equation 3 and algorithm 1.

The paper takes its tokenizer from DALL-E, which learned it from 250 million images. Here it is a
small autoencoder (`parts/tokenizer.py`) that learns on the same pool: in the first tokenizer_share
of the training its reconstruction error is added to the loss, then nothing moves it any more. The
ViT learns from the first step on, so that it shares the warm-up of the learning rate; it sees the
tokens settle. Nothing else is trained on them, so their gradients do not meet. A tokenizer that
was trained before, and written by `save_tokenizer`, may be given instead; its file's name pins what
is in it. Because the targets change, a loss before tokenizer_share says nothing about one after it:
there is no early stopping. The vocabulary of 8,192 for 1.28 million images shrinks with the root of
their number. Positions are timm's absolute ones (the authors' code: relative biases), there is no
layer scale, and drop_path is the encoder's (authors: 0.1). The views are those of the authors'
code, with crops from 0.2 of the area on instead of 0.08.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.encoder import Encoder, EncoderConfig
from raysl.methods.method import Batch, Method, MethodConfig
from raysl.methods.parts.classification import top1
from raysl.methods.parts.fields import require
from raysl.methods.parts.masks import NUM_BLOCKS, blockwise, num_hidden
from raysl.methods.parts.tokenizer import Tokenizer, levels_of, load_tokenizer
from raysl.methods.parts.tokens import (
    add_positions,
    chosen,
    embed_patches,
    num_patches,
    patches_a_side,
    patches_of,
    require_vit,
    run_blocks,
)
from raysl.methods.parts.views import require_views
from raysl.methods.parts.workers import draw
from raysl.optim import OptimConfig
from raysl.views import VIEWS


@dataclass(frozen=True, kw_only=True)
class BEiTConfig(MethodConfig):
    """mask_ratio: share of the patches that is hidden; min_block: share of the smallest block.

    vocabulary: number of visual tokens, a power of two. tokenizer_share: of all steps, in which
    the tokenizer learns. tokenizer: the file of a trained one, which then never learns.
    """

    mask_ratio: float = 0.4
    min_block: float = 0.08  # 16 of 14 x 14 patches
    vocabulary: int | None = None
    tokenizer_share: float = 0.2
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        require(self, "between 0 and 1", "mask_ratio", "min_block")
        if self.vocabulary is not None:
            levels_of(self.vocabulary)
        require(self, "from 0 to below 1", "tokenizer_share")


class BEiT(Method):
    """Name the visual tokens of hidden patches."""

    Config = BEiTConfig
    family = "generative"
    paper = "Bao et al., ICLR 2022, arXiv 2106.08254"
    encoders = "ViT (timm)"
    encoder_config = EncoderConfig(name="vit", pool="avg")
    views = replace(VIEWS["crop_flip"], crop_scale=(0.2, 1.0))
    capturable = True
    # The authors' 1.5e-3 at batch 2048, taken to other batches by the square root.
    optim = OptimConfig(
        lr=5.3e-4,
        lr_scaling="sqrt",
        weight_decay=0.05,
        betas=(0.9, 0.98),
        warmup=0.05,
        clip_norm=3.0,
    )
    scaling: ClassVar[Mapping[str, str]] = {
        "vocabulary": "8192 * sqrt(num_examples / 1.28 million) to the nearest power of two, "
        "from 64 to 8192; with a tokenizer given, its own",
        "tokenizer": "none is given: it learns on the pool in the first tokenizer_share",
    }
    has_validation_loss = False
    config: BEiTConfig

    def __init__(self, config: BEiTConfig, encoder: Encoder, **sizes: int):
        super().__init__(config, encoder, **sizes)
        vit = require_vit(encoder, "BEiT")
        images = {"channels": encoder.channels, "patch_size": int(vit.patch_embed.patch_size[0])}
        if config.tokenizer is None:
            vocabulary = config.vocabulary or vocabulary_for(sizes["num_examples"])
            self.tokenizer = Tokenizer(vocabulary=vocabulary, **images)
        else:
            self.tokenizer = load_tokenizer(Path(config.tokenizer), **images).requires_grad_(False)
            if config.vocabulary not in (None, self.tokenizer.vocabulary):
                raise ValueError(
                    f"method.vocabulary={config.vocabulary} does not fit the tokenizer given, "
                    f"which has {self.tokenizer.vocabulary}; leave it out."
                )
        self.mask_token = nn.Parameter(torch.randn(vit.embed_dim) * 0.02)
        self.predict = nn.Linear(vit.embed_dim, self.tokenizer.vocabulary)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        require_views("BEiT", batch.views, 1)
        (images,) = batch.views
        vit, c = self.encoder.body, self.config
        hidden = blockwise(
            draw(batch.generator, len(images), NUM_BLOCKS, 4),
            side=patches_a_side(vit),
            num_hidden=num_hidden(num_patches(vit), c.mask_ratio),
            min_share=c.min_block,
        )  # [B, M]
        if self.phase(batch.progress):
            tokens, error = self.tokenizer(images)
        else:
            tokens, error = self.tokenizer.tokens(images), no_error(self.tokenizer)
        patches = masked(embed_patches(vit, images), hidden, self.mask_token)
        features = patches_of(vit, run_blocks(vit, add_positions(vit, patches)))
        logits = self.predict(chosen(features, hidden)).float().flatten(0, 1)  # [B M, V]
        wanted = tokens.gather(1, hidden).flatten()
        loss = F.cross_entropy(logits, wanted)
        return {
            "loss": loss + error,
            "token_loss": loss,
            "token_top1": top1(logits.detach(), wanted),
            "target_usage": usage(wanted, self.tokenizer.vocabulary),
        }

    def phase(self, progress: float) -> bool:
        """Whether the tokenizer learns."""
        return self.config.tokenizer is None and progress < self.config.tokenizer_share

    def before_update(self, progress: float) -> None:
        if not self.phase(progress):  # nor do its moments and weight decay move it
            for parameter in self.tokenizer.parameters():
                parameter.grad = None


def masked(patches: Tensor, hidden: Tensor, mask_token: Tensor) -> Tensor:
    """Patches [B, h, w, D] with the mask token [D] in place of the hidden ones, int64 [B, M]."""
    masks = mask_token.to(patches.dtype).expand(*hidden.shape, -1)
    where = hidden[:, :, None].expand_as(masks)
    return patches.flatten(1, 2).scatter(1, where, masks).view_as(patches)


def no_error(tokenizer: Tokenizer) -> Tensor:
    """0 with a gradient of 0 for every parameter, since DDP waits for all of them.

    Of all at once, for one by one takes a GPU several kernels each.
    """
    return 0 * torch.cat([parameter.flatten() for parameter in tokenizer.parameters()])[0]


def vocabulary_for(num_examples: int) -> int:
    """8,192 at ImageNet's number of images, and as its root: the nearest power of two."""
    bits = 13 + math.log2(num_examples / 1_281_167) / 2
    return int(2 ** min(13, max(6, round(bits))))


@torch.no_grad()
def usage(tokens: Tensor, vocabulary: int) -> Tensor:
    """Entropy of how often each token occurs, as a share of the vocabulary's."""
    counts = torch.zeros(vocabulary, device=tokens.device)
    counts.scatter_add_(0, tokens, torch.ones_like(tokens, dtype=counts.dtype))
    return torch.special.entr(counts / len(tokens)).sum() / math.log(vocabulary)
