"""IDX files, the format of MNIST and its successors, compressed with gzip or not.

Images: big-endian int32 magic 2051, count, rows, columns, then uint8 pixels row by row. Labels:
magic 2049, count, then uint8. Described at http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from raysl.data.decode import Encoded
from raysl.data.images import UNLABELLED
from raysl.data.records import SPLIT_NAMES, Part, Source, index_labels

IMAGES_FILE = re.compile(r"(.*)images?[-._]idx3[-._]ubyte(\.gz)?")
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
BLOCK = 4096  # images


def idx_images_files(place: Path) -> list[Path]:
    """The IDX image files in a folder, or the file itself if it is one."""
    candidates = sorted(place.iterdir()) if place.is_dir() else [place]
    return [path for path in candidates if IMAGES_FILE.fullmatch(path.name)]


def idx_source(files: list[Path]) -> Source:
    """IDX image files, each with the label file beside it; the split is read from the name."""
    columns = [_labels(path) for path in files]
    indexed, classes = index_labels(columns, None)
    parts = [_part(path, labels) for path, labels in zip(files, indexed, strict=True)]
    return Source(parts, classes)


def _part(path: Path, labels: np.ndarray) -> Part:
    tokens = re.split(r"[^a-z0-9]+", path.name.lower())
    split = next((SPLIT_NAMES[token] for token in tokens if token in SPLIT_NAMES), "train")

    def read(positions: np.ndarray) -> Iterator[Encoded]:
        count, height, width = _header(path)
        wanted = np.asarray(positions)
        with _open(path) as file:
            file.seek(16)
            for start in range(0, count, BLOCK):
                num_images = min(BLOCK, count - start)
                content = _read(file, num_images * height * width, path)
                block = np.frombuffer(content, np.uint8).reshape(num_images, height, width)
                inside = wanted[(wanted >= start) & (wanted < start + num_images)]
                yield from block[inside - start]

    return Part(split, labels, read, lambda i: f"{path.name} #{i}")


def _labels(path: Path) -> list[int]:
    """The labels of an image file, all UNLABELLED where no label file lies beside it."""
    count, _, _ = _header(path)
    name = path.name.replace("images", "labels").replace("image", "label").replace("idx3", "idx1")
    stem = name.removesuffix(".gz")
    beside = [path.with_name(n) for n in (name, stem, f"{stem}.gz")]
    labels_path = next((p for p in beside if p.exists()), None)
    if labels_path is None:
        return [UNLABELLED] * count
    with _open(labels_path) as file:
        magic, num_labels = struct.unpack(">ii", _read(file, 8, labels_path))
        if magic != LABELS_MAGIC:
            raise ValueError(
                f"{labels_path} is no IDX label file (magic {magic}, not {LABELS_MAGIC}); "
                "get it again from its source."
            )
        if num_labels != count:
            raise ValueError(
                f"{labels_path} has {num_labels:,} labels for the {count:,} images of "
                f"{path.name}; get both again from one source."
            )
        return list(_read(file, num_labels, labels_path))


def _header(path: Path) -> tuple[int, int, int]:
    with _open(path) as file:
        magic, count, height, width = struct.unpack(">iiii", _read(file, 16, path))
    if magic != IMAGES_MAGIC:
        raise ValueError(
            f"{path} is no IDX file of 8-bit grey images (magic {magic}, not {IMAGES_MAGIC}); "
            "get it again from its source."
        )
    return count, height, width


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read(file: BinaryIO, num_bytes: int, path: Path) -> bytes:
    try:
        content = file.read(num_bytes)
    except (EOFError, OSError) as error:
        raise ValueError(f"{path} is broken ({error}); get it again from its source.") from None
    if len(content) < num_bytes:
        raise ValueError(f"{path} ends too early; get it again from its source.")
    return content
