"""Opening and reading a large store, beside a numpy.memmap of the same pixels.

    python benchmarks/store.py --images 300000 --size 64 --folder /tmp

Prints the seconds to open, the memory that opening takes, and images/s of reading random batches
of 256, ours and NumPy's in alternating repeats: medians and their ratio. Writes the pixels twice
(2 x 3.7 GB at the defaults) below --folder and removes them.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from raysl.data.store import FORMAT, VERSION, load_splits
from raysl.data.writer import GroupWriter

BATCH = 256


def write(folder: Path, *, num_images: int, size: int) -> np.memmap:
    """A store of random colour images, and the same pixels as one file for NumPy."""
    shape = (3, size, size)
    image_bytes = int(np.prod(shape))
    (folder / "store").mkdir()
    plain = np.memmap(folder / "plain", np.uint8, "w+", shape=(num_images, *shape))
    writer = GroupWriter(folder / "store", "pool", image_bytes=image_bytes)
    draw = np.random.default_rng(0)
    for number in range(num_images):
        pixels = draw.integers(0, 256, shape, dtype=np.uint8)
        plain[number] = pixels
        writer.add(pixels.tobytes(), number % 10, bytes(32))
    plain.flush()
    none = {"groups": [], "images": 0, "digest": "0"}
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "name": "benchmark",
        "shape": shape,
        "encoding": "raw",
        "classes": [str(i) for i in range(10)],
        "groups": {"pool": {"images": num_images, **writer.close()}},
        "splits": {
            "pool": {"groups": ["pool"], "images": num_images, "digest": "1"},
            **dict.fromkeys(("train", "val", "test"), none),
        },
    }
    (folder / "store" / "manifest.json").write_text(json.dumps(manifest))
    return np.memmap(folder / "plain", np.uint8, "r", shape=(num_images, *shape))


def resident_mb() -> float:
    """Of this process, from Linux's /proc; NaN elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    import pyarrow  # noqa: F401  # its import is not the store's

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        plain = write(Path(folder), num_images=arguments.images, size=arguments.size)
        before, started = resident_mb(), time.perf_counter()
        pool = load_splits(Path(folder) / "store").pool
        seconds, grown = time.perf_counter() - started, resident_mb() - before
        print(f"open {len(pool):,} images of {arguments.size} px: {seconds:.2f} s, {grown:.0f} MB")
        rates: dict[str, list[float]] = {"raysl": [], "numpy.memmap": []}
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))
        for _ in range(arguments.repeats + 1):  # the first warms the page cache
            for name in rates:
                started = time.perf_counter()
                for indices in order[: 40 * BATCH].split(BATCH):
                    if name == "raysl":
                        pool.read(indices)
                    else:
                        torch.from_numpy(plain[indices.numpy()])
                rates[name].append(40 * BATCH / (time.perf_counter() - started))
        medians = {name: statistics.median(found[1:]) for name, found in rates.items()}
        for name, rate in medians.items():
            print(f"read {BATCH} random images at a time, {name}: {rate:,.0f} images/s")
        print(f"ratio: {medians['raysl'] / medians['numpy.memmap']:.2f}")


if __name__ == "__main__":
    main()
