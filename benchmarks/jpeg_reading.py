"""Encoded images: how fast a batch is read, and how long the training loop waits for it.

    python benchmarks/jpeg_reading.py [--encoding jpeg] [--encoder convnet] [--size 64] [--quick]

A store of textured images of 256 px is read in random batches of 128, as a training does whose
images do not fit on the device. First by as many threads as PyTorch computes with against one, with
the same pixels. Then in raysl.train (SimCLR; `--encoder` and `--size` of its views make the update
as long as wanted), with the next batch read while an update runs against reading it in the loop,
and the share of a step that the loop waits for `read`.

raysl reads ahead where an update runs on a GPU; on a processor, whose cores the update needs, the
second row shows what it would be, and is not kept.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pretraining import ROWS, Row, imported, quick, recipe_for
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
)
from torch import Tensor

from raysl.data.images import Images
from raysl.data.prefetch import reading_ahead
from raysl.data.subset import batch_indices
from raysl.recipe import Recipe
from raysl.trial import check_splits, trained_images

NUM_IMAGES = 1024
READING_BAR = 1.5  # with two threads or more
TRAINING_BAR = 1.0


def reading(images: Images, *, batch_size: int, threads: int) -> Run:
    """Reads batches of the images, step after step, with so many threads."""

    def run(num_steps: int) -> float:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        start = time.perf_counter()
        for step in range(num_steps):
            positions = batch_indices(step, len(images), batch_size, seed=0)
            images.read(torch.from_numpy(positions))
        seconds = time.perf_counter() - start
        torch.set_num_threads(before)
        return seconds

    return run


class Timed:
    """Images with the seconds that whoever asked waited for each batch."""

    def __init__(self, images: Images):
        self.images = images
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        start = time.perf_counter()
        pixels = self.images.read(indices)
        self.seconds.append(time.perf_counter() - start)
        return pixels


class Turns:
    """The training loop, reading ahead or not: seconds of a turn, and its share of waiting."""

    def __init__(self, recipe: Recipe, images: Images, device: torch.device, *, ahead: bool):
        self.training = Training(recipe, images, device)
        self.ahead = ahead
        self.shares: list[float] = []

    def run(self, num_steps: int) -> float:
        timed: list[Timed] = []

        @contextmanager
        def watched(*arguments: Any, **options: Any) -> Iterator[Timed]:
            with reading_ahead(*arguments, **options) as ready:
                timed.append(Timed(ready))
                yield timed[0]

        rule = mock.patch("raysl.data.prefetch.worth_reading_ahead", return_value=self.ahead)
        with rule, mock.patch("raysl.train.reading_ahead", watched):
            seconds = self.training.run(num_steps)
        self.shares.append(sum(timed[0].seconds[-num_steps:]) / seconds)
        return seconds


def measure(row: Row, arguments: argparse.Namespace, folder: Path) -> None:
    """Time reading and training in turns; print and keep both lines."""
    device: torch.device = arguments.device
    splits, _ = imported(row, None, folder)
    recipe = recipe_for(row, splits, precision=best_precision(device))
    images = trained_images(recipe, *check_splits(recipe, splits))
    threads = torch.get_num_threads()
    settings = {
        "device_type": device.type,
        "encoding": row.encoding,
        "stored_size": row.stored_size,
        "encoder": row.encoder,
        "size": row.size,
        "batch_size": row.batch_size,
        "threads": threads,
    }
    rest = {"unit": "images/s", "device": device, "settings": settings}
    rest["commit"] = arguments.commit

    def ratio(title: str, runs: dict[str, Run], bar: float, *, results: Path | None) -> None:
        turns = {name: (run, num_steps_for(run, arguments.seconds)) for name, run in runs.items()}
        rates = alternate(turns, repeats=arguments.repeats)
        ours, theirs = ([row.batch_size * rate for rate in rates[name]] for name in runs)
        record(line_of(title, ours, theirs, bar=bar, **rest), results)

    title = f"Reading {row.encoding}, several threads against one"
    if threads == 1:
        print(f"{title}: not measured: PyTorch computes with one")
    else:
        several, one = (
            reading(images, batch_size=row.batch_size, threads=number) for number in (threads, 1)
        )
        ratio(title, {"several": several, "one": one}, READING_BAR, results=arguments.results)
    loops = {
        "ahead": Turns(recipe, images, device, ahead=True),
        "in the loop": Turns(recipe, images, device, ahead=False),
    }
    ratio(
        f"Training on {row.encoding}, read ahead against read in the loop",
        {name: loop.run for name, loop in loops.items()},
        TRAINING_BAR,
        results=arguments.results if device.type == "cuda" else None,
    )
    for name, loop in loops.items():
        shares = [100 * share for share in loop.shares[-arguments.repeats :]]
        print(
            f"  {name}: {statistics.median(shares):.1f} % of a step waiting for images "
            f"({min(shares):.1f} to {max(shares):.1f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--encoding", choices=("jpeg", "png", "raw"), default="jpeg")
    parser.add_argument("--encoder", default="convnet")
    parser.add_argument("--size", type=int, default=64, help="of the views, in pixels")
    arguments = complete(parser.parse_args())
    row = replace(ROWS["resnet50"], encoder=arguments.encoder, stem="auto", num_images=NUM_IMAGES)
    row = replace(quick(row) if arguments.quick else row, encoding=arguments.encoding)
    row = replace(row, size=min(arguments.size, row.stored_size))
    with tempfile.TemporaryDirectory() as folder:
        measure(row, arguments, Path(folder))


if __name__ == "__main__":
    main()
