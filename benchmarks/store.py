"""A store of 1,000,000 images beside one of 10,000: reading, training, memory.

    python benchmarks/store.py [--num 1000000] [--size 64] [--folder FOLDER] [--numpy] [--quick]

Random grey images, raw, in two stores below --folder (4.1 GB at the defaults, removed at the end).
Both are opened as a user does (`load_splits`) and take turns: random batches of 256 through
`Images.read`, and SimCLR steps of our convnet through raysl.train, of 256 images as well. Each row
is images/s of the large store over those of the small one. What was written lies in the page cache
if the machine has the memory, so the rows speak of the software, not of a disk.

Memory is RssAnon of Linux, the resident pages of a process that are not of a mapped file (those are
shared, and the system takes them back when it needs them): the largest seen in a fresh process for
each store that opens it, reads 100 batches and trains 3 steps. --numpy also reads the same pixels
as one numpy.memmap, which takes as much disk again.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import (
    Run,
    Training,
    add_options,
    alternate,
    best_precision,
    complete,
    line_of,
    num_steps_for,
    record,
    synchronise,
)

from raysl.data.images import Images, resident
from raysl.data.store import FORMAT, VERSION, load_splits
from raysl.data.writer import GroupWriter
from raysl.recipe import Recipe
from raysl.trial import check_splits, trained_images

BATCH = 256
SMALLER = 100  # the small store has this share of the images
SPEED_BAR = 0.9
MEMORY_BAR_MB = 1024
CHUNK = 4096  # images drawn at once
NUM_CLASSES = 10
MEMORY_BATCHES, MEMORY_STEPS = 100, 3


def write(folder: Path, *, num_images: int, size: int, plain: np.ndarray | None = None) -> Path:
    """A store of random grey images, whose pixels also go to `plain` [N, 1, S, S] if given."""
    shape = (1, size, size)
    image_bytes = size * size
    folder.mkdir()
    writer = GroupWriter(folder, "images", image_bytes=image_bytes)
    draw = np.random.default_rng(0)
    for start in range(0, num_images, CHUNK):
        num = min(CHUNK, num_images - start)
        pixels = draw.integers(0, 256, (num, image_bytes), dtype=np.uint8)
        if plain is not None:
            plain[start : start + num] = pixels.reshape(num, *shape)
        for number, image in enumerate(pixels):
            writer.add(image.tobytes(), (start + number) % NUM_CLASSES, bytes(32))
    split = {"groups": ["images"], "images": num_images, "digest": str(num_images)}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": "benchmark",
        "shape": shape,
        "encoding": "raw",
        "classes": [str(i) for i in range(NUM_CLASSES)],
        "groups": {"images": writer.close()},
        "splits": dict.fromkeys(("pool", "train", "val", "test"), split),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def pool_and_training(store: Path, *, batch: int, device: torch.device) -> tuple[Images, Training]:
    """The images as they are read, and a training on all of them as a trial has it."""
    splits = load_splits(store)
    recipe = Recipe.create(
        "simclr",
        dataset=splits.digest,
        pool_size=len(splits.pool),
        label_size=NUM_CLASSES,
        batch_size=batch,
        precision=best_precision(device),
    ).with_overrides({"duration": "100000 steps"})
    stored = trained_images(recipe, *check_splits(recipe, splits))
    images = resident(stored, device)
    return splits.pool, Training(recipe, images, device)


def reading(read: Callable[[torch.Tensor], object], num_images: int) -> Run:
    """A run of n reads n random batches."""
    draw = torch.Generator().manual_seed(0)

    def run(num_batches: int) -> float:
        batches = torch.randint(num_images, (num_batches, BATCH), generator=draw)
        start = time.perf_counter()
        for indices in batches:
            read(indices)
        return time.perf_counter() - start

    return run


def anonymous_mb() -> float:
    """Resident memory of this process without mapped files, from Linux's /proc; NaN elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")]
    return found[0] if found else float("nan")


def memory(store: Path, *, batch: int, device: torch.device) -> float:
    """The most MB that opening, reading and training took at any look, in this process."""
    pool, training = pool_and_training(store, batch=batch, device=device)
    looks = [anonymous_mb()]
    read = reading(pool.read, len(pool))
    for _ in range(MEMORY_BATCHES):
        read(1)
        looks.append(anonymous_mb())
    for _ in range(MEMORY_STEPS):
        training.run(1)
        looks.append(anonymous_mb())
    synchronise(device)
    return max(looks)


def in_fresh_process(store: Path, *, batch: int, device: torch.device) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(memory, store, batch=batch, device=device).result()


def measure(stores: dict[str, Path], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The lines of reading and of training, with the memory of both stores in the second."""
    device: torch.device = arguments.device
    seconds, pools, trainings = {}, {}, {}
    for name, store in stores.items():
        start = time.perf_counter()
        load_splits(store)
        seconds[name] = time.perf_counter() - start
        pools[name], trainings[name] = pool_and_training(
            store, batch=arguments.batch, device=device
        )
        print(f"open {len(pools[name]):,} images of {arguments.size} px: {seconds[name]:.3f} s")
    reads = {name: reading(pool.read, len(pool)) for name, pool in pools.items()}
    candidates = {
        "reading": reads,
        "training": {name: training.run for name, training in trainings.items()},
    }
    for what, runs in candidates.items():
        rates = alternate(turns(runs, arguments), repeats=arguments.repeats)
        num = BATCH if what == "reading" else arguments.batch
        line = line_of(
            f"store of {len(pools['large']):,} images against {len(pools['small']):,}, {what}",
            *([num * rate for rate in rates[name]] for name in ("large", "small")),
            unit="images/s",
            bar=SPEED_BAR,
            device=device,
            settings={
                "device_type": device.type,
                "size": arguments.size,
                "batch": num,
                "threads": torch.get_num_threads(),
            },
            commit=arguments.commit,
        )
        extra = {"open_seconds": seconds}
        if what == "training":
            extra["memory_mb"] = compared_memory(stores, arguments)
        yield line | extra
    if arguments.numpy:
        plain = np.load(arguments.plain, mmap_mode="r")
        numpys = reading(lambda indices: torch.from_numpy(plain[indices.numpy()]), len(plain))
        runs = turns({"raysl": reads["large"], "numpy": numpys}, arguments)
        rates = alternate(runs, repeats=arguments.repeats)
        ratios = [a / b for a, b in zip(rates["raysl"], rates["numpy"], strict=True)]
        print(f"reading, against numpy.memmap: {statistics.median(ratios):.2f}")


def compared_memory(stores: dict[str, Path], arguments: argparse.Namespace) -> dict[str, float]:
    """MB of a fresh process for each store; printed beside the bar."""
    used = {
        name: in_fresh_process(store, batch=arguments.batch, device=arguments.device)
        for name, store in stores.items()
    }
    more = used["large"] - used["small"]
    print(
        f"memory: {used['large']:,.0f} and {used['small']:,.0f} MB, {more:+,.0f} MB, bar "
        f"{MEMORY_BAR_MB:,} {'reached' if more <= MEMORY_BAR_MB else 'missed'}"
    )
    return used


def turns(runs: dict[str, Run], arguments: argparse.Namespace) -> dict[str, tuple[Run, int]]:
    """The same number of steps for all, so that fixed costs of a turn weigh the same."""
    num_steps = max(num_steps_for(run, arguments.seconds) for run in runs.values())
    return {name: (run, num_steps) for name, run in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--num", type=int, help="images of the large store (1,000,000)")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--folder", type=Path, help="for the stores; default: the system's")
    parser.add_argument("--numpy", action="store_true", help="also read a numpy.memmap")
    arguments = complete(parser.parse_args())
    arguments.num = arguments.num or (20_000 if arguments.quick else 1_000_000)
    small = max(NUM_CLASSES, arguments.num // SMALLER)
    arguments.batch = min(8 if arguments.quick else BATCH, small)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        place = Path(folder)
        start = time.perf_counter()
        plain = None
        if arguments.numpy:
            arguments.plain = place / "plain.npy"
            shape = (arguments.num, 1, arguments.size, arguments.size)
            plain = np.lib.format.open_memmap(arguments.plain, "w+", np.uint8, shape)
        stores = {
            "large": write(
                place / "large", num_images=arguments.num, size=arguments.size, plain=plain
            ),
            "small": write(place / "small", num_images=small, size=arguments.size),
        }
        print(f"written in {time.perf_counter() - start:.0f} s", flush=True)
        for line in measure(stores, arguments):
            record(line, arguments.results)


if __name__ == "__main__":
    main()
