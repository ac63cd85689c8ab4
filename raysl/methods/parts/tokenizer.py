"""A small autoencoder that turns each patch of an image into one of `vocabulary` visual tokens.

It quantises by finite scalars: a few numbers a patch, each rounded to a few levels, with the
gradient passed straight through. All combinations of levels are the vocabulary, so there is no
codebook to collapse (Mentzer, Minnen, Agustsson, Tschannen, ICLR 2024, arXiv 2309.15505).
"""

import hashlib
import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.methods.parts.tokens import patchify

WIDTH = 128


class Tokenizer(nn.Module):
    """Convolutions over the grid of patches, into the levels and out again."""

    levels: Tensor  # [d]
    strides: Tensor  # int64 [d], of the levels in the number of a token
    highest: Tensor  # int64 [d], the last of the levels, which count from 0

    def __init__(self, *, channels: int, patch_size: int, vocabulary: int):
        super().__init__()
        self.channels, self.patch_size, self.vocabulary = channels, patch_size, vocabulary
        levels = torch.tensor(levels_of(vocabulary))
        self.register_buffer("levels", levels.float())
        self.register_buffer("strides", levels.cumprod(0) // levels)
        self.register_buffer("highest", levels - 1, persistent=False)
        self.encode = nn.Sequential(
            nn.Conv2d(channels, WIDTH, patch_size, stride=patch_size),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, len(levels), 1),
        )
        self.decode = nn.Sequential(
            nn.Conv2d(len(levels), WIDTH, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(WIDTH, WIDTH, 1),
            nn.GELU(),
            nn.Conv2d(WIDTH, patch_size**2 * channels, 1),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images' tokens, int64 [B, N], and the mean squared error of painting from them."""
        place = self.places(images)  # [B, h, w, d]
        level = self.levels_at(place)
        through = place + (level + 0.5 - place).detach()  # its middle, with the place's gradient
        codes = (2 * through - 1) / self.highest - 1  # -1 to 1
        painted = self.decode(codes.permute(0, 3, 1, 2)).flatten(2).mT  # [B, N, p p C]
        error = F.mse_loss(painted.float(), patchify(images, self.patch_size).float())
        return self.numbered(level), error

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """The images' tokens only."""
        return self.numbered(self.levels_at(self.places(images)))

    def places(self, images: Tensor) -> Tensor:
        """Where each patch lies among the levels, between 0 and their number."""
        z = self.encode(images).permute(0, 2, 3, 1).float()  # [B, h, w, d]
        return z.sigmoid() * self.levels

    def levels_at(self, place: Tensor) -> Tensor:
        """The level, int64, which reaches from its number to the next."""
        return place.detach().long().minimum(self.highest)

    def numbered(self, level: Tensor) -> Tensor:
        return (level * self.strides).sum(dim=-1).flatten(1)


def levels_of(vocabulary: int) -> list[int]:
    """Levels that multiply to it, a power of two: eights, and fours for what remains."""
    bits = vocabulary.bit_length() - 1
    if bits < 2 or vocabulary != 2**bits:
        raise ValueError(f"method.vocabulary must be a power of two from 4 up, not {vocabulary}.")
    num_fours = (-bits) % 3  # two bits each instead of three
    return [8] * ((bits - 2 * num_fours) // 3) + [4] * num_fours


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write it for `load_tokenizer`; the name of the file has the digest of its content."""
    content = io.BytesIO()
    sizes = {name: getattr(tokenizer, name) for name in ("channels", "patch_size", "vocabulary")}
    torch.save({"sizes": sizes, "weights": tokenizer.state_dict()}, content)
    path = folder / f"tokenizer-{_digest(content.getvalue())}.pt"
    path.write_bytes(content.getvalue())
    return path


def load_tokenizer(path: Path, *, channels: int, patch_size: int) -> Tokenizer:
    """What `save_tokenizer` wrote, for such images; a sentence if it is not, or does not fit."""
    if not path.is_file():
        raise ValueError(f"method.tokenizer: there is no file {str(path)!r}.")
    content = path.read_bytes()
    if path.stem != f"tokenizer-{_digest(content)}":
        raise ValueError(
            f"method.tokenizer: {path.name!r} is not what save_tokenizer wrote: its name must be "
            f"the digest of its content, tokenizer-{_digest(content)}.pt."
        )
    saved = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    sizes = saved["sizes"]
    if (sizes["channels"], sizes["patch_size"]) != (channels, patch_size):
        raise ValueError(
            f"method.tokenizer was made for {sizes['channels']} channel(s) and patches of "
            f"{sizes['patch_size']} px, not for {channels} and {patch_size}; set "
            "encoder.patch_size, or train another."
        )
    tokenizer = Tokenizer(**sizes)
    tokenizer.load_state_dict(saved["weights"])
    return tokenizer


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
