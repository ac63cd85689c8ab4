"""Resident data: which share of a training step the loop waits for images.

    python benchmarks/data_wait.py [--rows small,resnet18] [--data FOLDER] [--quick]

A step of raysl.train (SimCLR, the rows of pretraining.py at 32 px) gets its images as a trial has
them: on a GPU from one tensor on the device, on a processor from the memory-mapped store. Beside
it, in turns, the same loop gets them from a DataLoader over the same images, one by one in as many
workers as there are cores.

What counts is reading a batch and bringing it to the device, before views are made: the time that
the loop's own thread spends there and, on a GPU, the time between two events around it, in which
the device works on the copy or waits for it. The larger of the two is the share printed. The row is
the speed with waiting over the speed without, 1 less the share, so that more is better.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from pretraining import ROWS, Row, imported, quick, recipe_for
from timing import (
    Training,
    add_options,
    alternate,
    best_precision,
    complete,
    line_of,
    num_cores,
    num_steps_for,
    record,
)
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from raysl.data.images import Images, resident
from raysl.memory import keep_freed_memory
from raysl.recipe import Recipe
from raysl.trial import check_splits, trained_images

BAR = 0.97


class Watched:
    """Images whose batches come from `source` and go to the device, with the time that takes."""

    def __init__(self, images: Images, source: Callable[[Tensor], Tensor], device: torch.device):
        self.images = images
        self.source = source
        self.device = device
        self.host: list[float] = []  # seconds of each batch
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        """uint8 [B, C, S, S] on the device."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            pair = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.events.append(pair)
            pair[0].record()
        start = time.perf_counter()
        pixels = self.source(indices).to(self.device, non_blocking=True)
        self.host.append(time.perf_counter() - start)
        if on_gpu:
            pair[1].record()
        return pixels

    def seconds(self, num_batches: int) -> float:
        """Of the last so many batches, the host's or the device's, whichever is more."""
        device = [a.elapsed_time(b) / 1e3 for a, b in self.events[-num_batches:]]
        return max(sum(self.host[-num_batches:]), sum(device))


class OneByOne(Dataset):
    """The images for a DataLoader."""

    def __init__(self, images: Images):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Tensor:
        return self.images.read(torch.tensor([number]))[0]


class Loaded:
    """Batches of a DataLoader, epoch after epoch; its queue is full when a turn starts."""

    def __init__(self, images: Images, *, batch_size: int, device: torch.device, num_workers: int):
        self.loader = DataLoader(
            OneByOne(images),
            batch_size=batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self.batches: Iterator[Tensor] = iter(())

    def __call__(self, indices: Tensor) -> Tensor:
        """The next batch, whatever the loop asked for."""
        try:
            return next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            return next(self.batches)


class Turns:
    """The training loop on watched images: steps per second, and the share of waiting in each."""

    def __init__(self, recipe: Recipe, watched: Watched, device: torch.device):
        self.watched = watched
        self.training = Training(recipe, watched, device)
        self.shares: list[float] = []

    def run(self, num_steps: int) -> float:
        seconds = self.training.run(num_steps)
        self.shares.append(self.watched.seconds(num_steps) / seconds)
        return seconds


def measure(row: Row, arguments: argparse.Namespace, folder: Path) -> None:
    """Time both loops in turns; print and keep the line."""
    device: torch.device = arguments.device
    splits, _ = imported(row, arguments.data, folder)
    recipe = recipe_for(row, splits, precision=best_precision(device))
    stored = trained_images(recipe, *check_splits(recipe, splits))
    held = resident(stored, device)
    loaded = Loaded(stored, batch_size=row.batch_size, device=device, num_workers=arguments.workers)
    loops = {
        "raysl": Turns(recipe, Watched(held, held.read, device), device),
        "DataLoader": Turns(recipe, Watched(stored, loaded, device), device),
    }
    turns = {
        name: (loop.run, num_steps_for(loop.run, arguments.seconds)) for name, loop in loops.items()
    }
    for loop in loops.values():
        loop.shares.clear()
    rates = alternate(turns, repeats=arguments.repeats)
    for name, loop in loops.items():
        shares = [100 * share for share in loop.shares]
        print(
            f"{name}: {statistics.median(shares):.2f} % of a step waiting for images "
            f"({min(shares):.2f} to {max(shares):.2f} in {len(shares)} turns of {turns[name][1]})"
        )
    pairs = zip(rates["raysl"], rates["DataLoader"], strict=True)
    faster = statistics.median(a / b for a, b in pairs)
    print(f"steps/s: {faster:.2f} times those with the DataLoader, whose workers use cores")
    ours = loops["raysl"].shares
    line = line_of(
        f"{row.name}, not waiting for resident images",
        rates["raysl"],
        [rate / (1 - share) for rate, share in zip(rates["raysl"], ours, strict=True)],
        unit="steps/s",
        bar=BAR,
        device=device,
        settings={
            **asdict(row),
            "device_type": device.type,
            "images": "fashion-mnist" if arguments.data else "textures",
            "precision": recipe.precision,
            "workers": arguments.workers,
            "threads": torch.get_num_threads(),
        },
        commit=arguments.commit,
    )
    waiting = {name: statistics.median(loop.shares) for name, loop in loops.items()}
    record({**line, "waiting": waiting, "times_dataloader": faster}, arguments.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--rows", help="small on a processor, resnet18 on a GPU")
    parser.add_argument("--data", type=Path, help="folder with fashion-mnist in it")
    parser.add_argument("--workers", type=int, default=num_cores(), help="of the DataLoader")
    arguments = complete(parser.parse_args())
    keep_freed_memory()  # as the command line and Ray's workers do
    names = arguments.rows or ("small" if arguments.device.type == "cpu" else "resnet18")
    for name in names.split(","):
        row = quick(ROWS[name]) if arguments.quick else ROWS[name]
        with tempfile.TemporaryDirectory() as folder:
            measure(row, arguments, Path(folder))


if __name__ == "__main__":
    main()
