"""What an importer reads: a source of parts, each a list of encoded images with labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from raysl.data.decode import Encoded
from raysl.data.images import UNLABELLED

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
    **dict.fromkeys(("unlabelled", "unlabeled", "unsupervised"), "unlabelled"),
    "pool": "pool",
}


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a source that belong to one split, in a fixed order.

    split: train, val, test, unlabelled (in the pool besides train), or pool (is the pool).
    labels: int64 [N], positions in the source's classes; UNLABELLED where there is none.
    read: yields the encoded images at increasing positions, in that order, without holding all.
    origin: what a person would call the image at a position.
    """

    split: str
    labels: np.ndarray
    read: Callable[[np.ndarray], Iterator[Encoded]]
    origin: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Source:
    """What was found at the place that a user named."""

    parts: list[Part]
    classes: tuple[str, ...]
    num_ignored: int = 0  # files that are no images


def array_part(split: str, images: np.ndarray, labels: np.ndarray, *, name: str) -> Part:
    """A part held in memory: uint8 [N, H, W] or [N, H, W, C]."""
    return Part(
        split,
        np.asarray(labels, dtype=np.int64),
        lambda positions: (images[i] for i in positions),
        lambda position: f"{name} #{position}",
    )


def index_labels(
    columns: Sequence[Sequence[object]], names: Sequence[str] | None
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """Label values of every part as positions in the classes, and the classes.

    With `names` a number is a position already and a text one of the names. Without, the classes
    are the sorted distinct values. None and negative numbers mean unlabelled.
    """
    present = {v for column in columns for v in column if not _is_missing(v)}
    if len({isinstance(value, str) for value in present}) > 1:
        raise ValueError(
            "Some labels of the source are text and others are numbers; convert them to one kind."
        )
    if names is None:
        order = sorted(present)  # type: ignore[type-var]
        position = {value: i for i, value in enumerate(order)}
        classes = tuple(str(value) for value in order)
    else:
        classes = tuple(names)
        known: dict[object, int] = {i: i for i in range(len(classes))}
        known |= {name: i for i, name in enumerate(classes)}
        position = {value: known.get(value, UNLABELLED) for value in present}
        beyond = [value for value, place in position.items() if place == UNLABELLED]
        if beyond:
            raise ValueError(
                f"The label {beyond[0]!r} has no name: the source names the {len(classes)} classes "
                f"{', '.join(classes[:5])}{', ...' if len(classes) > 5 else ''}; correct its "
                "labels or its names."
            )
    indexed = [
        np.array([UNLABELLED if _is_missing(v) else position[v] for v in column], dtype=np.int64)
        for column in columns
    ]
    return indexed, classes


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, int) and value < 0)
