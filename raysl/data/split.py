"""Which images form which split: those given, and those made by a seed."""

from typing import Literal

import numpy as np

from raysl.data.records import Part
from raysl.data.subset import nested_order
from raysl.rng import derive_seed

# Groups are stored once each; a split is one or more of them. In the order of the import: what is
# later loses its duplicates to what is earlier.
GROUPS = ("test", "val", "pool", "train", "unlabelled")
TEST, VAL, POOL, TRAIN, UNLABELLED_GROUP = range(len(GROUPS))


def carve(labels: np.ndarray, count: int, seed: int, *, name: str) -> np.ndarray:
    """Sorted positions of `count` labelled images, stratified, for the split called `name`."""
    order = nested_order(len(labels), derive_seed(seed, f"split {name}"), labels)
    return np.sort(order[:count])


def assign_groups(
    parts: list[Part],
    *,
    split: Literal["given", "random"],
    seed: int,
    val_fraction: float,
    test_fraction: float,
) -> tuple[np.ndarray, list[str]]:
    """The group (a position in GROUPS) of every image of all parts in a row, and the splits made.

    "given" keeps the source's splits and makes a val or test that is missing from the labelled
    training images; "random" makes both from all labelled images. The fractions are of these.
    """
    labels = np.concatenate([part.labels for part in parts])
    given = np.concatenate([np.full(len(p), GROUPS.index(p.split), np.int8) for p in parts])
    groups = given.copy()
    if split == "random":
        groups[groups != POOL] = TRAIN
    groups[(groups == TRAIN) & (labels < 0)] = UNLABELLED_GROUP
    labelled = int((groups == TRAIN).sum())
    made = []
    for group, fraction in ((TEST, test_fraction), (VAL, val_fraction)):
        name = GROUPS[group]
        if (groups == group).any() or not labelled or not fraction:
            continue
        remaining = np.flatnonzero(groups == TRAIN)
        chosen = carve(labels[remaining], round(fraction * labelled), seed, name=name)
        groups[remaining[chosen]] = group
        made.append(name)
    return groups, made


def groups_of_splits(groups: np.ndarray) -> dict[str, list[str]]:
    """Which groups form each split: the pool is train and unlabelled unless one was given."""
    train_side = ["pool"] if (groups == POOL).any() else ["train"]
    present = [name for i, name in enumerate(GROUPS) if (groups == i).any()]
    return {
        "pool": [name for name in (*train_side, "unlabelled") if name in present],
        "train": [name for name in ("train",) if name in present],
        "val": [name for name in ("val",) if name in present],
        "test": [name for name in ("test",) if name in present],
    }
