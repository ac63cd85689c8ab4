"""Subsets nest, stratify and depend on nothing but their arguments; epochs are permutations."""

import dataclasses

import numpy as np
import pytest
import torch

from raysl.data.images import Splits, TensorImages
from raysl.data.subset import batch_indices, nested_order, require_labels

SKEWED = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, -1], [60, 30, 10, 50]))


def test_an_order_holds_every_example_once_so_that_sizes_nest():
    order = nested_order(500, seed=3)
    assert sorted(order) == list(range(500))


def test_a_stratified_order_holds_every_labelled_example_once_and_no_other():
    order = nested_order(len(SKEWED), 3, SKEWED)
    assert sorted(order) == np.flatnonzero(SKEWED >= 0).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_every_class_is_present_as_soon_as_there_is_room(seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10), [910] + [10] * 9))
    assert set(labels[nested_order(len(labels), seed, labels)[:10]]) == set(range(10))


@pytest.mark.parametrize("seed", range(5))
def test_every_size_has_the_class_shares_to_within_one_image(seed):
    labels = SKEWED[nested_order(len(SKEWED), seed, SKEWED)]
    shares = np.array([0.6, 0.3, 0.1])
    for size in range(3, len(labels) + 1):
        counts = np.bincount(labels[:size], minlength=3)
        assert np.abs(counts - shares * size).max() <= 1, size


def test_orders_and_batches_depend_on_their_arguments_only():
    first = nested_order(100, 1), nested_order(len(SKEWED), 1, SKEWED), batch_indices(7, 50, 8, 1)
    first[2][:] = 0  # what a caller does to a batch stays with the caller
    batch_indices(999, 50, 8, 1), batch_indices(3, 60, 8, 2), batch_indices(4, 50, 8, 3)
    assert (first[0] == nested_order(100, 1)).all()
    assert (first[1] == nested_order(len(SKEWED), 1, SKEWED)).all()
    assert (batch_indices(7, 50, 8, 1) == batch_indices(7, 50, 8, 1)).all()
    assert len(set(batch_indices(7, 50, 8, 1))) == 8
    assert (nested_order(100, 1) != nested_order(100, 2)).any()
    assert (batch_indices(7, 50, 8, 1) != batch_indices(7, 50, 8, 2)).any()


@pytest.mark.parametrize(("num_examples", "batch_size"), [(48, 8), (50, 8), (8, 8), (2, 2)])
def test_each_epoch_is_a_permutation_of_its_own(num_examples, batch_size):
    per_epoch = num_examples // batch_size
    epochs = [
        np.concatenate(
            [
                batch_indices(epoch * per_epoch + i, num_examples, batch_size, seed=0)
                for i in range(per_epoch)
            ]
        )
        for epoch in range(8)
    ]
    for epoch in epochs:
        assert len(set(epoch)) == per_epoch * batch_size
        assert 0 <= epoch.min() <= epoch.max() < num_examples
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert set(np.concatenate(epochs)) == set(range(num_examples))  # no image is always dropped


def test_a_batch_larger_than_the_pool_names_the_fix():
    with pytest.raises(ValueError, match=r"batch of 65 .* 64 images .* batch_size to at most 64"):
        batch_indices(0, 64, 65, seed=0)


def relabelled(images: TensorImages, labels: torch.Tensor) -> TensorImages:
    return dataclasses.replace(images, labels=labels)


def test_enough_labels_pass(colour_splits):
    for label_size in (4, 64):
        assert require_labels(colour_splits, label_size) is None


@pytest.mark.parametrize(
    ("label_size", "sentence"),
    [
        (3, r"label size of 3 is below the 4 classes of patterns; set label_size to at least 4"),
        (65, r"label size of 65 is above the 64 labelled training images of patterns"),
    ],
)
def test_a_label_size_out_of_range_names_the_range(colour_splits, label_size, sentence):
    with pytest.raises(ValueError, match=sentence):
        require_labels(colour_splits, label_size)


def test_a_set_without_labels_says_so(colour_splits):
    train = relabelled(colour_splits.train, torch.full((64,), -1))
    with pytest.raises(ValueError, match="patterns has no labelled training images"):
        require_labels(dataclasses.replace(colour_splits, train=train), 8)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_that_lacks_a_class_is_named_with_the_class(colour_splits: Splits, split):
    images = getattr(colour_splits, split)
    lacking = relabelled(images, torch.where(images.labels == 2, 1, images.labels))
    with pytest.raises(ValueError, match=rf"The {split} split of patterns has no image of rows;"):
        require_labels(dataclasses.replace(colour_splits, **{split: lacking}), 8)
