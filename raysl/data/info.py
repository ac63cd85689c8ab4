"""What a person wants to know of a store: its counts, and a look at its images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from raysl.data.digits import DIGITS
from raysl.data.images import Images, channel_statistics
from raysl.data.store import check_shards, load_splits, read_manifest
from raysl.rng import numpy_generator

BACKGROUND, INK = (24, 24, 27), (228, 228, 231)
GAP = 4  # pixels between tiles
TEXT_HEIGHT = 18  # pixels of a caption


def store_info(source: str | Path, *, verify: bool = False) -> dict[str, Any]:
    """What a store or a built-in set holds, as plain values: manifest, counts, bytes on the disk.

    verify: also compare the hash of every file with that of the import.
    """
    splits = load_splits(source)
    if str(source) == DIGITS:
        mean, std = channel_statistics(splits.pool)
        manifest: dict[str, Any] = {
            "name": DIGITS,
            "source": DIGITS,
            "encoding": "in memory",
            "digest": splits.digest,
            "classes": list(splits.train.classes),
            "mean": list(mean),
            "std": list(std),
        }
        num_bytes = 0
    else:
        store = Path(source).expanduser().resolve()
        manifest = read_manifest(store)
        check_shards(store, manifest, hashes=verify)
        num_bytes = sum(path.stat().st_size for path in store.iterdir())
    return {
        **{k: v for k, v in manifest.items() if k not in ("groups", "splits", "format")},
        "shape": list(splits.pool.shape),
        "bytes": num_bytes,
        "splits": {
            split: _count(getattr(splits, split)) for split in ("pool", "train", "val", "test")
        },
    }


def _count(images: Images) -> dict[str, Any]:
    labels = images.labels[images.labels >= 0]
    counts: Sequence[int] = torch.bincount(labels, minlength=len(images.classes)).tolist()
    return {
        "images": len(images),
        "labelled": len(labels),
        "classes": dict(zip(images.classes, counts, strict=True)),
        "digest": images.digest,
    }


def contact_sheet(
    images: Images,
    path: str | Path,
    *,
    columns: int = 12,
    max_classes: int = 20,
    tile: int = 64,
    seed: int = 0,
) -> Path:
    """Write a PNG of random images, a captioned row for each class and one for those without.

    tile: side in pixels at least; small images are enlarged by a whole factor, unsmoothed.
    """
    scale = max(1, -(-tile // images.shape[1]))
    side = images.shape[1] * scale
    rows = _rows(images, columns, max_classes, seed)
    width = GAP + columns * (side + GAP)
    heights = [(TEXT_HEIGHT if caption else 0) + side + GAP for caption, _ in rows]
    sheet = Image.new("RGB", (width, GAP + sum(heights)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    top = GAP
    for (caption, indices), height in zip(rows, heights, strict=True):
        draw.text((GAP, top), caption, fill=INK, font=font)
        top += height
        pixels = images.read(indices).cpu().numpy()  # [n, C, S, S]
        for column, image in enumerate(pixels):
            picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
            picture = picture.resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(picture, (GAP + column * (side + GAP), top - side - GAP))
    path = Path(path)
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise ValueError(
            f"The contact sheet cannot be written to {path} ({error.strerror}); choose another "
            "place with --contact-sheet."
        ) from None
    return path


def _rows(
    images: Images, columns: int, max_classes: int, seed: int
) -> list[tuple[str, torch.Tensor]]:
    """Caption and image positions of each row; without classes the rows of one big sample."""
    labels = images.labels.numpy()
    order = numpy_generator(seed, "contact sheet").permutation(len(images))
    rows = []
    for label, name in list(enumerate(images.classes))[:max_classes]:
        members = order[labels[order] == label]
        rows.append((f"{name}: {len(members):,}", torch.from_numpy(members[:columns])))
    unlabelled = order[labels[order] < 0]
    num_rows = 1 if rows else 10
    for start in range(0, min(len(unlabelled), num_rows * columns), columns):
        caption = "" if start else f"unlabelled: {len(unlabelled):,}"
        rows.append((caption, torch.from_numpy(unlabelled[start : start + columns])))
    if not rows:
        raise ValueError(f"{images.name} holds no images to show; choose another split.")
    return rows
