"""A store opens at once whatever its size, reads what was imported, and says what is wrong."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_splits
from pictures import SIZE, chw, class_files, write_images
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from raysl.data.digest import image_hash
from raysl.data.images import Subset, tensor_images
from raysl.data.importer import import_images
from raysl.data.info import contact_sheet, store_info
from raysl.data.store import FORMAT, VERSION, load_splits
from raysl.data.writer import GroupWriter


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """90 colour images in three classes and 10 without a label, in shards of at most 8 images."""
    folder = tmp_path_factory.mktemp("data")
    files = class_files("train/", 30) | {f"unlabelled/{i}.png": 500 + i for i in range(10)}
    source = write_images(folder / "in", files)
    import_images(source, folder / "store", size=SIZE, shard_bytes=8 * 3 * SIZE * SIZE)
    return folder / "store"


def copy_of(store: Path, folder: Path) -> Path:
    target = folder / "copy"
    target.mkdir()
    for path in store.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


# Reading


def test_any_order_with_repeats_over_many_shards_reads_the_right_images(store):
    pool = load_splits(store).pool
    assert len(list(store.glob("*.arrow"))) > 8
    everything = pool.read(torch.arange(len(pool)))
    assert everything.shape == (len(pool), 3, SIZE, SIZE)
    assert everything.dtype == torch.uint8
    indices = torch.randint(0, len(pool), (300,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(pool.read(indices), everything[indices])
    assert pool.read(indices[:0]).shape == (0, 3, SIZE, SIZE)
    originals = {chw(number) for number in (*range(90), *range(500, 510))}
    assert {image.numpy().tobytes() for image in everything} < originals


def test_what_was_read_belongs_to_the_reader(store):
    pool = load_splits(store).pool
    first = pool.read(torch.arange(4))
    kept = first.clone()
    first.zero_()
    assert torch.equal(pool.read(torch.arange(4)), kept)


@pytest.mark.parametrize("index", [-1, 10_000])
def test_a_position_outside_the_split_is_refused(store, index):
    with pytest.raises(AssertionError, match="positions of this split"):
        load_splits(store).pool.read(torch.tensor([0, index]))


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_encoded_stores_read_any_order_too(tmp_path, encoding):
    source = write_images(tmp_path / "in", class_files("", 10))
    import_images(source, tmp_path / "out", size=SIZE, encoding=encoding, shard_bytes=1000)
    pool = load_splits(tmp_path / "out").pool
    everything = pool.read(torch.arange(len(pool)))
    indices = torch.tensor([5, 0, 5, len(pool) - 1])
    assert torch.equal(pool.read(indices), everything[indices])


def test_a_split_travels_to_another_process_as_a_path(store, tmp_path):
    pool = load_splits(store).pool
    content = pickle.dumps(pool)
    assert len(content) < 1000
    (tmp_path / "pool.pickle").write_bytes(content)
    code = "import pickle, torch, pathlib, sys; " + (
        "p = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()); "
        "print(p.read(torch.tensor([3, 1])).sum().item(), p.labels.sum().item(), p.digest)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pool.pickle")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    pixels = pool.read(torch.tensor([3, 1])).sum().item()
    assert run.stdout.split() == [str(pixels), str(pool.labels.sum().item()), pool.digest]


def test_a_store_replaced_while_in_use_is_noticed(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 10))
    import_images(source, tmp_path / "out", size=SIZE)
    content = pickle.dumps(load_splits(tmp_path / "out").train)
    import_images(source, tmp_path / "out", size=SIZE, seed=1, overwrite=True)
    with pytest.raises(ValueError, match="was replaced while in use"):
        pickle.loads(content)


# Size


def many_shards(folder: Path, *, num_shards: int) -> int:
    """A store of `num_shards` times 5,000 colour images of 64 px, all names of one real file."""
    shape, per_shard = (3, 64, 64), 5000
    image_bytes = int(np.prod(shape))
    content = np.random.default_rng(0).integers(0, 256, (per_shard, image_bytes), dtype=np.uint8)
    folder.mkdir()
    writer = GroupWriter(folder, "pool", image_bytes=image_bytes)
    for number, pixels in enumerate(content):
        writer.add(pixels.tobytes(), number % 10, bytes(32))
    first, *rest = writer.close()["shards"]
    assert not rest
    shards = []
    for number in range(num_shards):
        name = f"pool-{number:05d}.arrow"
        if number:
            os.link(folder / first["file"], folder / name)
        shards.append({**first, "file": name})
    num_images = num_shards * per_shard
    empty = {"groups": [], "images": 0, "digest": "0"}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": "many",
        "shape": shape,
        "encoding": "raw",
        "classes": [str(i) for i in range(10)],
        "groups": {"pool": {"images": num_images, "shards": shards}},
        "splits": {
            "pool": {"groups": ["pool"], "images": num_images, "digest": "1"},
            **dict.fromkeys(("train", "val", "test"), empty),
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return num_images * image_bytes


def memory_mb(kind: str) -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("resident memory is read from Linux's /proc")
    line = next(line for line in status.read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) / 1024


def test_300_000_images_open_in_two_seconds_without_being_read(tmp_path):
    import pyarrow  # noqa: F401  # its own memory is not the store's

    store_bytes = many_shards(tmp_path / "store", num_shards=60)
    assert store_bytes > 3.6e9
    before, start = memory_mb("VmRSS"), time.perf_counter()
    splits = load_splits(tmp_path / "store")
    seconds, grown = time.perf_counter() - start, memory_mb("VmRSS") - before
    assert len(splits.pool) == 300_000
    assert seconds < 2
    assert grown < 100
    descriptors = len(os.listdir("/proc/self/fd"))
    assert descriptors < 60  # a store of many shards does not use up the open files


def test_reading_everything_keeps_no_copy(tmp_path):
    many_shards(tmp_path / "store", num_shards=4)
    pool = load_splits(tmp_path / "store").pool
    pool.read(torch.arange(100))
    before = memory_mb("RssAnon")
    for indices in torch.randperm(len(pool)).split(256):
        pool.read(indices)
    assert memory_mb("RssAnon") - before < 60  # of 246 MB


# What is wrong with a store


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (
            lambda p: None,
            FileNotFoundError,
            r"There is no image store .*; make a store with `raysl d",
        ),
        (lambda p: p.mkdir(), ValueError, r"x is empty; if it holds images, `raysl data import"),
        (
            lambda p: write_images(p, {"a.png": 1}),
            ValueError,
            r"has no manifest\.json, so it is no image store; if it holds images, `raysl data import",
        ),
        (
            lambda p: p.write_text("x"),
            ValueError,
            r"is a file and no image store; `raysl data import",
        ),
    ],
)
def test_what_is_no_store_gets_a_sentence_with_the_command(tmp_path, make, error, sentence):
    make(tmp_path / "x")
    with pytest.raises(error, match=sentence):
        load_splits(tmp_path / "x")


@pytest.mark.parametrize(
    ("manifest", "sentence"),
    [
        ("{", "is damaged or belongs to something else"),
        ("[]", "is damaged or belongs to something else"),
        ('{"format": "npm", "version": 1}', "is damaged or belongs to something else"),
        (json.dumps({"format": FORMAT, "version": 99}), f"format version 99 .* reads {VERSION}"),
    ],
)
def test_a_strange_manifest_is_named(store, tmp_path, manifest, sentence):
    copy = copy_of(store, tmp_path)
    (copy / "manifest.json").write_text(manifest)
    with pytest.raises(ValueError, match=sentence):
        load_splits(copy)


def test_names_that_are_no_paths_get_their_own_sentences():
    with pytest.raises(ValueError, match="'sklearn:digit'; did you mean 'sklearn:digits'"):
        load_splits("sklearn:digit")
    with pytest.raises(ValueError, match=r"`raysl data import torchvision:CIFAR10 DEST --size 32`"):
        load_splits("torchvision:CIFAR10")


def test_missing_and_truncated_shards_are_named(store, tmp_path):
    copy = copy_of(store, tmp_path)
    shard = copy / "train-00001.arrow"
    content = shard.read_bytes()
    shard.write_bytes(content[:-8])
    with pytest.raises(ValueError, match=r"train-00001\.arrow has [\d,]+ bytes instead of"):
        load_splits(copy)
    shard.unlink()
    with pytest.raises(ValueError, match=r"train-00001\.arrow is missing; copy the store again"):
        load_splits(copy)


def test_a_changed_byte_is_found_when_asked_to_verify(store, tmp_path):
    copy = copy_of(store, tmp_path)
    store_info(copy, verify=True)
    shard = copy / "test-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    load_splits(copy)
    with pytest.raises(ValueError, match=r"test-00000\.arrow has changed since the import"):
        store_info(copy, verify=True)


# Digests


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
    assert make_digest() == "b22ec17e3a2e6e3a"


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
