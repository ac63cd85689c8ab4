"""Digests stand for content, the built-in images hold, and a store can be looked at."""

import json

import numpy as np
import pytest
import torch
from conftest import make_splits
from pictures import SIZE, write_images
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from raysl.data.digest import image_hash
from raysl.data.images import Subset, tensor_images
from raysl.data.importer import import_images
from raysl.data.info import contact_sheet, store_info
from raysl.data.store import load_splits


def test_a_digest_is_of_the_content_and_not_of_the_shards(store, tmp_path):
    source = store.parent / "in"
    other = import_images(source, tmp_path / "one", size=SIZE, name="another name")
    assert len(list((tmp_path / "one").glob("*.arrow"))) < len(list(store.glob("*.arrow")))
    assert load_splits(store).digest == load_splits(tmp_path / "one").digest == other["digest"]


def test_images_in_memory_have_the_digest_of_their_store(store):
    for images in (load_splits(store).train, load_splits(store).test):
        pixels = images.read(torch.arange(len(images)))
        copy = tensor_images(pixels, images.labels, classes=images.classes, name="copy")
        assert copy.digest == images.digest


def test_pixels_labels_class_names_order_and_shape_all_count():
    pixels = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).to(torch.uint8)
    labels = torch.tensor([0, 1])
    changed = pixels.clone()
    changed[1, 2, 3, 3] += 1
    digests = [
        tensor_images(p, y, classes=c, name="x").digest
        for p, y, c in (
            (pixels, labels, ("a", "b")),
            (changed, labels, ("a", "b")),
            (pixels, 1 - labels, ("a", "b")),
            (pixels, labels, ("a", "c")),
            (pixels.flip(0), labels, ("a", "b")),
            (pixels.reshape(2, 12, 2, 2), labels, ("a", "b")),
        )
    ]
    assert len(set(digests)) == len(digests)


def test_a_digest_is_the_same_on_every_machine():
    assert image_hash(b"abc").hex().startswith("ba7816bf8f01cfea")  # SHA-256 of "abc", FIPS 180-4
    assert make_digest() == "b63674fdb8fc2a48"


def make_digest() -> str:
    pixels = (torch.arange(2 * 16) * 7 % 256).reshape(2, 1, 4, 4).to(torch.uint8)
    images = tensor_images(pixels, torch.tensor([1, -1]), classes=("é", "b"), name="x")
    return images.digest[:16]


# Built-in images


def test_the_built_in_digits_are_stratified_and_share_nothing():
    splits = load_splits("sklearn:digits")
    assert (len(splits.pool), len(splits.train)) == (1047, 1047)
    assert (len(splits.val), len(splits.test)) == (250, 500)
    assert splits.pool.shape == (1, 8, 8)
    assert splits.source == "sklearn:digits"
    for images in (splits.train, splits.val, splits.test):
        shares = images.labels.bincount() / len(images)
        assert (shares - 0.1).abs().max() < 0.005
    every = torch.cat(
        [i.read(torch.arange(len(i))) for i in (splits.train, splits.val, splits.test)]
    )
    assert len({image.numpy().tobytes() for image in every}) == 1797
    assert every.max() == 255
    assert splits.digest == load_splits("sklearn:digits").digest


@pytest.mark.parametrize("channels", [1, 3])
def test_the_patterns_of_the_tests_can_be_learned(channels):
    splits = make_splits(channels)
    assert splits.pool.shape == (channels, 16, 16)
    neighbour = KNeighborsClassifier(1)
    neighbour.fit(splits.train.pixels.flatten(1), splits.train.labels)
    assert neighbour.score(splits.test.pixels.flatten(1), splits.test.labels) > 0.7


def test_a_subset_reads_through_to_its_images(store):
    pool = load_splits(store).pool
    subset = Subset(pool, torch.tensor([7, 2, 9]))
    assert torch.equal(subset.read(torch.tensor([2, 0])), pool.read(torch.tensor([9, 7])))
    assert subset.labels.tolist() == pool.labels[[7, 2, 9]].tolist()


# Looking at a store


def test_the_info_counts_what_the_splits_hold(store):
    info = store_info(store)
    assert info["shape"] == [3, SIZE, SIZE]
    assert {k: v["images"] for k, v in info["splits"].items()} == {
        "pool": 73,
        "train": 63,
        "val": 9,
        "test": 18,
    }
    assert info["splits"]["pool"]["labelled"] == 63
    assert info["splits"]["val"]["classes"] == {"ant": 3, "bee": 3, "cow": 3}
    assert info["bytes"] > 100 * 3 * SIZE * SIZE
    assert len(info["mean"]) == len(info["std"]) == 3
    assert info["digest"] == load_splits(store).digest
    json.dumps(info)


def test_the_built_in_digits_have_an_info_too():
    info = store_info("sklearn:digits")
    assert info["splits"]["test"]["images"] == 500
    assert info["digest"] == load_splits("sklearn:digits").digest
    assert 0.25 < info["mean"][0] < 0.35


def test_a_contact_sheet_shows_every_class_in_its_row(tmp_path):
    shades = torch.tensor([60, 120, 180])
    labels = torch.arange(30) % 3
    pixels = shades[labels][:, None, None, None].expand(-1, 1, 8, 8).to(torch.uint8)
    images = tensor_images(pixels, labels, classes=("dark", "mid", "light"), name="shades")
    path = contact_sheet(images, tmp_path / "sheet.png", columns=5, tile=32)
    sheet = np.asarray(Image.open(path))
    rows = [np.flatnonzero((sheet[:, 10] == shade).all(axis=1)) for shade in (60, 120, 180)]
    assert [len(row) for row in rows] == [32, 32, 32]
    assert rows[0].max() < rows[1].min() < rows[1].max() < rows[2].min()
    assert (sheet == 60).all(axis=2).sum() == 5 * 32 * 32


def test_a_contact_sheet_of_nothing_is_refused(tmp_path):
    write_images(tmp_path / "in", {"a.png": 1})
    import_images(tmp_path / "in", tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    with pytest.raises(ValueError, match="out/train holds no images to show"):
        contact_sheet(splits.train, tmp_path / "sheet.png")
    assert Image.open(contact_sheet(splits.pool, tmp_path / "sheet.png")).size[0] > 64
