"""Data sets that torchvision downloads, by name."""

from pathlib import Path
from typing import Any

import numpy as np

from raysl.config import unknown_name
from raysl.data.records import Part, Source, array_part

_TRAIN_FLAG = {"train": {"train": True}, "test": {"train": False}}
# torchvision's name -> our split -> the arguments that select it. SVHN's "extra" images, which
# are easier than its training images, are left out.
SETS: dict[str, dict[str, dict[str, Any]]] = {
    "MNIST": _TRAIN_FLAG,
    "FashionMNIST": _TRAIN_FLAG,
    "KMNIST": _TRAIN_FLAG,
    "CIFAR10": _TRAIN_FLAG,
    "CIFAR100": _TRAIN_FLAG,
    "STL10": {
        "train": {"split": "train"},
        "test": {"split": "test"},
        "unlabelled": {"split": "unlabeled"},
    },
    "SVHN": {"train": {"split": "train"}, "test": {"split": "test"}},
}


def torchvision_source(name: str, *, downloads: Path) -> Source:
    """The torchvision set `name`, downloaded into the folder `downloads` unless it is there."""
    if name not in SETS:
        raise ValueError(
            unknown_name("torchvision data set", name, SETS)
            + " Others can be imported from class folders."
        )
    import torchvision

    parts: list[Part] = []
    classes: tuple[str, ...] = ()
    for split, arguments in SETS[name].items():
        try:
            dataset = getattr(torchvision.datasets, name)(downloads, download=True, **arguments)
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            reason = " ".join(str(error).split()).rstrip(".")
            raise ValueError(
                f"torchvision:{name} could not be downloaded ({reason}); connect to the network, "
                "or put its files into a folder and name it with --downloads."
            ) from None
        images = np.asarray(dataset.data)
        if name in ("STL10", "SVHN"):
            images = images.transpose(0, 2, 3, 1)  # [N, H, W, C]
        labels = np.asarray(getattr(dataset, "targets", getattr(dataset, "labels", None)))
        names = getattr(dataset, "classes", [str(i) for i in range(labels.max() + 1)])
        classes = classes or tuple(str(n) for n in names)
        parts.append(array_part(split, images, labels, name=f"{name} {split}"))
    return Source(parts, classes)
