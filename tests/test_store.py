"""A store opens at once whatever its size, reads what was imported, and says what is wrong."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import SIZE, chw, class_files, write_images

from raysl.data.importer import import_images
from raysl.data.info import store_info
from raysl.data.store import FORMAT, VERSION, load_splits
from raysl.data.writer import GroupWriter


def copy_of(store: Path, folder: Path) -> Path:
    target = folder / "copy"
    target.mkdir()
    for path in store.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


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


@pytest.mark.parametrize("colour", ["rgb", "grey"])
@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_encoded_stores_read_any_order_with_any_number_of_threads(tmp_path, encoding, colour):
    source = write_images(tmp_path / "in", class_files("", 10))
    options = {"size": SIZE, "encoding": encoding, "colour": colour}
    import_images(source, tmp_path / "out", shard_bytes=1000, **options)
    pool = load_splits(tmp_path / "out").pool
    one_by_one = [pool.read(torch.tensor([position])) for position in range(len(pool))]
    everything = torch.cat(one_by_one)  # [N, C, S, S]
    indices = torch.randint(len(pool), (50,), generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        assert torch.equal(pool.read(indices), everything[indices])
    torch.set_num_threads(before)


@pytest.mark.slow
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


def test_300_000_images_open_without_being_read(tmp_path):
    import pyarrow  # noqa: F401  # its own memory is not the store's

    store_bytes = many_shards(tmp_path / "store", num_shards=60)
    assert store_bytes > 3.6e9
    open_before = len(os.listdir("/proc/self/fd"))
    before = memory_mb("VmRSS")
    splits = load_splits(tmp_path / "store")
    grown = memory_mb("VmRSS") - before
    assert len(splits.pool) == 300_000
    assert grown < 100
    descriptors = len(os.listdir("/proc/self/fd")) - open_before
    assert descriptors < 30  # a store of many shards does not use up the open files


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
            r"has no manifest\.json, so it is no image store; if it holds images, `raysl data",
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
