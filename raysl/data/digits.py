"""The digits that scikit-learn ships: real handwriting, 8x8 grey, no download.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, 1998, doi:10.24432/C50P49 (CC BY 4.0): the 1,797 images of its test part.
"""

import numpy as np
import torch

from raysl.data.images import Splits, tensor_images
from raysl.data.records import Source, array_part
from raysl.data.split import carve

DIGITS = "sklearn:digits"
SPLIT_SEED = 0
NUM_VAL, NUM_TEST = 250, 500  # which leaves 1,047 to train


def digits_source() -> Source:
    """Train, val and test, stratified by a fixed seed; values 0-16 scaled to 0-255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # [1797, 8, 8]
    labels = digits.target.astype(np.int64)
    test = carve(labels, NUM_TEST, SPLIT_SEED, name="test")
    rest = np.setdiff1d(np.arange(len(labels)), test)
    val = rest[carve(labels[rest], NUM_VAL, SPLIT_SEED, name="val")]
    train = np.setdiff1d(rest, val)
    parts = [
        array_part(split, pixels[at], labels[at], name=f"digits {split}")
        for split, at in (("train", train), ("val", val), ("test", test))
    ]
    return Source(parts, tuple(str(i) for i in range(10)))


def digits_splits() -> Splits:
    """The digits as they are, held in memory; pool and train are the same images."""
    source = digits_source()
    images = {}
    for part in source.parts:
        pixels = np.array(list(part.read(np.arange(len(part)))), dtype=np.uint8)[
            :, None
        ]  # [N, 1, 8, 8]
        images[part.split] = tensor_images(
            torch.from_numpy(pixels),
            torch.from_numpy(part.labels),
            classes=source.classes,
            name=f"digits/{part.split}",
        )
    return Splits(images["train"], images["train"], images["val"], images["test"], source=DIGITS)
