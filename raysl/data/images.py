"""The data contract: one split of one data set as square uint8 images."""

import hashlib
import re
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raysl.data.digest import image_hash, joint_digest, split_digest

UNLABELLED = -1


class Images(Protocol):
    """One split of one data set: square, uint8, indexable by a tensor of positions."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...  # of pixels and labels: equal digests, equal data
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def labels(self) -> Tensor: ...  # int64 [N]; UNLABELLED where there is none
    @property
    def shape(self) -> tuple[int, int, int]: ...  # (C, S, S)
    def __len__(self) -> int: ...
    def read(self, indices: Tensor) -> Tensor:
        """uint8 [B, C, S, S] on the device that holds the images."""
        ...


@dataclass(frozen=True)
class Splits:
    """What a trial may see: `pool` without labels, `train` with, `val` to select, `test` once.

    `pool` and `train` are often the same images. `source` is what `load_splits` was given.
    """

    pool: Images
    train: Images
    val: Images
    test: Images
    source: str = ""

    @property
    def name(self) -> str:
        """Of the data set, fit for a folder's name: "fashion" where the pool is "fashion/pool"."""
        return re.sub(r"[^\w.-]+", "-", re.sub(r"/(pool|train)$", "", self.pool.name))

    @property
    def digest(self) -> str:
        """Of all four splits: the `dataset` of a recipe."""
        return joint_digest(i.digest for i in (self.pool, self.train, self.val, self.test))


@dataclass(frozen=True, eq=False)
class TensorImages:
    """Images held in one uint8 tensor [N, C, S, S], on the CPU or on the training device."""

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str
    digest: str

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, indices: Tensor) -> Tensor:
        return self.pixels[indices.to(self.pixels.device)]  # [B, C, S, S]


def tensor_images(
    pixels: Tensor, labels: Tensor, *, classes: tuple[str, ...], name: str
) -> TensorImages:
    """Images held in memory with the digest of their content, the same as that of a raw store."""
    num_images, channels, height, width = pixels.shape
    content = pixels.cpu().contiguous().numpy().reshape(num_images, -1)
    digest = split_digest(
        b"".join(image_hash(image.tobytes()) for image in content),
        labels.cpu().numpy(),
        classes=classes,
        shape=(channels, height, width),
    )
    return TensorImages(pixels, labels, classes, name, digest)


@dataclass(frozen=True, eq=False)
class Subset:
    """The images of `images` at `indices` (int64 [N]), in that order."""

    images: Images
    indices: Tensor

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def digest(self) -> str:
        content = self.images.digest.encode() + self.indices.numpy().tobytes()
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def labels(self) -> Tensor:
        return self.images.labels[self.indices]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, indices: Tensor) -> Tensor:
        return self.images.read(self.indices[indices])


def resident(images: Images, device: torch.device | str, *, budget_bytes: int) -> Images:
    """The images as one tensor on `device` if they fit `budget_bytes`, else as they are.

    On a CPU a memory-mapped store is left as it is: its pages are already shared.
    """
    channels, height, width = images.shape
    fits = len(images) * channels * height * width <= budget_bytes
    if not fits or torch.device(device).type == "cpu":
        return images
    pixels = torch.cat([images.read(part) for part in torch.arange(len(images)).split(4096)])
    return TensorImages(
        pixels.to(device), images.labels, images.classes, images.name, images.digest
    )


def channel_statistics(
    images: Images, *, num_examples: int = 4096
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel's pixels in 0-1, of evenly spaced images."""
    indices = torch.linspace(0, len(images) - 1, min(len(images), num_examples)).long()
    pixels = images.read(indices).double() / 255  # [N, C, S, S]
    mean = pixels.mean(dim=(0, 2, 3)).tolist()
    std = pixels.std(dim=(0, 2, 3), correction=0).clamp(min=1e-3).tolist()
    return tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std)
