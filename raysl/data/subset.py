"""Which images a trial sees, as pure functions: nested subsets and the order of batches."""

from functools import lru_cache

import numpy as np

from raysl.data.images import Images, Splits
from raysl.rng import numpy_generator


def nested_order(num_examples: int, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """An order of all examples (int64 [N]) whose first n entries are the subset of size n.

    Without `labels` it is a plain permutation. With labels (int64 [N]; negative = unlabelled,
    left out) the same permutation is stratified: one image of every class first, then classes in
    proportion to their frequency, to within one image a class where no class is rare.
    """
    order = numpy_generator(seed, "subset").permutation(num_examples)
    if labels is None:
        return order
    order = order[np.asarray(labels)[order] >= 0]
    ordered_labels = np.asarray(labels)[order]
    rank = np.empty(len(order))
    for label in np.unique(ordered_labels):
        members = np.flatnonzero(ordered_labels == label)
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
        rank[members[0]] = 0.0  # every class is there as soon as there is room for it
    return order[np.argsort(rank, kind="stable")]


def batch_indices(step: int, num_examples: int, batch_size: int, seed: int) -> np.ndarray:
    """The positions (int64 [batch_size]) of batch `step`: distinct, each epoch a new permutation.

    A pure function, so resuming and sharding over workers are exact. The remainder of an epoch
    that fills no batch is dropped; it differs from epoch to epoch.
    """
    if batch_size > num_examples:
        raise ValueError(
            f"The batch of {batch_size} is larger than the {num_examples} images to draw from; "
            f"set batch_size to at most {num_examples}."
        )
    epoch, position = divmod(step, num_examples // batch_size)
    permutation = _permutation(num_examples, seed, epoch)
    return permutation[position * batch_size : (position + 1) * batch_size].copy()


@lru_cache(maxsize=2)  # every batch of an epoch asks for the same permutation
def _permutation(num_examples: int, seed: int, epoch: int) -> np.ndarray:
    return numpy_generator(seed, "batches", epoch).permutation(num_examples)


def require_labels(splits: Splits, label_size: int) -> None:
    """Raise unless `label_size` images can train a probe and val and test can judge it."""
    source = splits.source or splits.train.name
    num_labelled = int((splits.train.labels >= 0).sum())
    classes = splits.train.classes
    if not num_labelled:
        raise ValueError(
            f"{source} has no labelled training images, and every probe and baseline needs some; "
            "import it from class folders, or with its label column or label files."
        )
    if label_size < len(classes):
        raise ValueError(
            f"A label size of {label_size} is below the {len(classes)} classes of {source}; set "
            f"label_size to at least {len(classes)}."
        )
    if label_size > num_labelled:
        raise ValueError(
            f"A label size of {label_size:,} is above the {num_labelled:,} labelled training "
            f"images of {source}; set label_size to at most {num_labelled}."
        )
    for name, images in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        missing = _classes_without_images(images)
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ValueError(
                f"The {name} split of {source} has no image of {', '.join(missing[:3])}{more}; "
                "import again with a larger --val-fraction or --test-fraction, or with more images "
                "of the class."
            )


def _classes_without_images(images: Images) -> list[str]:
    present = set(images.labels.unique().tolist())
    return [name for i, name in enumerate(images.classes) if i not in present]
