"""Small data for tests: four classes that a few steps can learn, and an image store."""

import multiprocessing
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from pictures import SIZE, class_files, write_images

from raysl.data.images import Splits, TensorImages, tensor_images
from raysl.data.importer import import_images

torch.set_num_threads(1)  # tiny tensors: a second thread only waits for the first
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the same, for pytest-xdist's workers
# Processes that tests start are forked from one that has imported what takes seconds.
multiprocessing.set_forkserver_preload(["raysl.train", "raysl.study.threshold"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with most slow tests first: each runs on one process, and none is left for last."""
    num_slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -num_slow[item.path])  # stable: files stay together


CLASSES = ("flat", "columns", "rows", "checks")
SIDE = 16


def make_images(num_images: int, *, channels: int, seed: int, name: str) -> TensorImages:
    """Noisy patterns of random phase and contrast; the class is the pattern, colours are random."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_images) % len(CLASSES)
    phase = torch.randint(0, 4, (num_images, 2), generator=generator)
    steps = torch.arange(SIDE)
    across = ((steps + phase[:, :1]) // 2 % 2 * 2 - 1).float()[:, None, :]  # [N, 1, S]
    down = ((steps + phase[:, 1:]) // 2 % 2 * 2 - 1).float()[:, :, None]  # [N, S, 1]
    patterns = torch.stack(
        [torch.zeros(num_images, SIDE, SIDE), across + 0 * down, down + 0 * across, across * down],
        dim=1,
    )
    pattern = patterns[torch.arange(num_images), labels][:, None]  # [N, 1, S, S]
    contrast = 40 + 40 * torch.rand(num_images, channels, 1, 1, generator=generator)
    level = 96 + 64 * torch.rand(num_images, channels, 1, 1, generator=generator)
    noise = 12 * torch.randn(num_images, channels, SIDE, SIDE, generator=generator)
    pixels = (level + contrast * pattern + noise).clamp(0, 255).to(torch.uint8)
    return tensor_images(pixels, labels, classes=CLASSES, name=name)


def make_splits(channels: int) -> Splits:
    """64 images to train on, which are the pool too, 32 to select and 32 to test, balanced."""
    train, val, test = (
        make_images(size, channels=channels, seed=seed, name=f"patterns/{split}")
        for seed, (split, size) in enumerate((("train", 64), ("val", 32), ("test", 32)))
    )
    return Splits(train, train, val, test, source="patterns")


@pytest.fixture(scope="session")
def colour_splits() -> Splits:
    """uint8 [N, 3, 16, 16], 4 classes."""
    return make_splits(channels=3)


@pytest.fixture(scope="session")
def grey_splits() -> Splits:
    """uint8 [N, 1, 16, 16], 4 classes."""
    return make_splits(channels=1)


@pytest.fixture(scope="session")
def splits(colour_splits: Splits) -> Splits:
    """What a test takes that does not care about channels."""
    return colour_splits


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """90 colour images in three classes and 10 without a label, in shards of at most 8 images."""
    folder = tmp_path_factory.mktemp("data")
    files = class_files("train/", 30) | {f"unlabelled/{i}.png": 500 + i for i in range(10)}
    source = write_images(folder / "in", files)
    import_images(source, folder / "store", size=SIZE, shard_bytes=8 * 3 * SIZE * SIZE)
    return folder / "store"
