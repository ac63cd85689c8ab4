"""The identity of a data set: a hash of what it holds, not of how it is stored."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def image_hash(content: bytes) -> bytes:
    """32 bytes that stand for one image: its pixels [C, S, S] row by row, or its JPEG bytes."""
    return hashlib.sha256(content).digest()


def split_digest(
    image_hashes: bytes,
    labels: np.ndarray,
    *,
    classes: Iterable[str],
    shape: tuple[int, int, int],
    coding: str = "pixels",
) -> str:
    """The digest of one split: shape, class names, and every image and label in order.

    image_hashes: the 32 bytes of each image, joined. coding: "pixels" (raw and PNG stores of the
    same images are equal) or "jpeg", where the stored bytes are hashed, since decoders differ.
    """
    assert len(image_hashes) == 32 * len(labels), "one hash and one label for every image"
    header = {"classes": list(classes), "coding": coding, "shape": list(shape)}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(image_hashes)
    digest.update(np.asarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()


def joint_digest(split_digests: Iterable[str]) -> str:
    """16 hexadecimal digits for pool, train, val and test together, in this order."""
    return hashlib.sha256(" ".join(split_digests).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
