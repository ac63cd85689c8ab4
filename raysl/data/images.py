"""The data contract: one split of one data set as square uint8 images."""

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.data.digest import image_hash, joint_digest, split_digest

UNLABELLED = -1
READ_AT_ONCE = 1024  # images
RESIDENT_BYTES = 8 * 2**30  # of a GPU's memory that images may take ...
RESIDENT_SHARE = 1 / 4  # ... and of what is free: trainings need the most of it


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


def send(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on `device`; the processor does not wait until a GPU has taken it."""
    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


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
        return self.pixels[send(indices, self.pixels.device)]  # [B, C, S, S]


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


@dataclass(frozen=True, eq=False)
class Resized:
    """The images of `images` at `size` pixels a side (bicubic, antialiased)."""

    images: Images
    size: int

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def digest(self) -> str:
        content = f"{self.images.digest} at {self.size}".encode()
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape[0], self.size, self.size

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        pixels = self.images.read(indices).float()
        size = (self.size, self.size)
        resized = F.interpolate(pixels, size, mode="bicubic", antialias=True)
        return resized.round().clamp(0, 255).to(torch.uint8)  # [B, C, size, size]


def resident(images: Images, device: torch.device | str) -> Images:
    """The images as one tensor on a GPU if they take little of it, else as they are.

    On a CPU a memory-mapped store is left as it is: its pages are already shared.
    """
    if torch.device(device).type == "cpu":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    if len(images) * math.prod(images.shape) > min(RESIDENT_BYTES, free * RESIDENT_SHARE):
        return images
    pixels = all_pixels(images, device)
    return TensorImages(pixels, images.labels, images.classes, images.name, images.digest)


def all_pixels(images: Images, device: torch.device | str) -> Tensor:
    """Every image as uint8 [N, C, S, S] on `device`; no more than a part is ever on the host."""
    pixels = torch.empty((len(images), *images.shape), dtype=torch.uint8, device=device)
    everything = torch.arange(len(images))
    for there, part in zip(pixels.split(READ_AT_ONCE), everything.split(READ_AT_ONCE), strict=True):
        there.copy_(images.read(part))
    return pixels


def channel_statistics(
    images: Images, *, num_examples: int = 4096
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel's pixels in 0-1, of evenly spaced images."""
    indices = torch.linspace(0, len(images) - 1, min(len(images), num_examples)).long()
    pixels = images.read(indices).double() / 255  # [N, C, S, S]
    mean = pixels.mean(dim=(0, 2, 3)).tolist()
    std = pixels.std(dim=(0, 2, 3), correction=0).clamp(min=1e-3).tolist()
    return tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std)
