"""Small image files and what a store made of them holds, for the tests of the import."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raysl.data.images import Images
from raysl.data.store import load_splits

SIZE = 8


def picture(number: int, *, channels: int = 3) -> np.ndarray:
    """A distinct image for every number."""
    shape = (SIZE, SIZE, channels) if channels > 1 else (SIZE, SIZE)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def png(number: int, *, channels: int = 3) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(number, channels=channels)).save(buffer, "PNG")
    return buffer.getvalue()


def write_images(root: Path, files: dict[str, int], *, channels: int = 3) -> Path:
    for name, number in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number, channels=channels))
    return root


def class_files(above: str, per_class: int, *, start: int = 0) -> dict[str, int]:
    names = [
        f"{above}{kind}/{i:03d}.png" for kind in ("ant", "bee", "cow") for i in range(per_class)
    ]
    return {name: start + i for i, name in enumerate(names)}


def sizes(store: Path) -> tuple[int, ...]:
    splits = load_splits(store)
    return tuple(len(images) for images in (splits.pool, splits.train, splits.val, splits.test))


def contents(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.read(torch.arange(len(images)))}


def chw(number: int) -> bytes:
    return picture(number).transpose(2, 0, 1).tobytes()
