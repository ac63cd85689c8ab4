"""SimCLR pretraining, the whole pipeline: images/s of ours and of lightly's documented loop.

    python benchmarks/pretraining.py [--rows small,resnet18,resnet50] [--data FOLDER] [--quick]

small: our convnet at 32 px in colour, batch 256, on the processor. resnet18: ResNet-18 with a 3x3
stem, the same images. resnet50: ResNet-50 at 224 px from JPEG files of 256 px, batch 128, with the
images on the device, as a trial has them if they fit, and read while training, as if they do not;
each beside the same loop fed with random tensors that lie on the device.

Ours goes the user's way: images imported into a store, a recipe, raysl.train on what a trial would
train on. Where the device multiplies bfloat16 it is timed in that, which a user asks for with
`precision`, on a GPU also with `compile`, and, like for like, in float32, the default of a recipe.
Theirs is `lightly_loop.py`, in float32 as documented; it gets the same encoder, sizes, strengths
and cores. All candidates of a row take turns in one process. FOLDER holds fashion-mnist (IDX files)
for the rows at 32 px; without it, and at 224 px, images are random textures.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

import lightly_loop
import numpy as np
import torch
from PIL import Image
from timing import (
    Run,
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

from raysl.data.images import Images, Splits, TensorImages, resident
from raysl.data.importer import import_images
from raysl.data.store import load_splits
from raysl.encoder import EncoderConfig
from raysl.memory import keep_freed_memory
from raysl.recipe import Recipe
from raysl.trial import check_splits, trained_images
from raysl.views import VIEWS

NUM_STEPS = 100_000  # of the training whose parts are timed
JPEG_QUALITY = 90  # about 20 KB an image of 256 px


@dataclass(frozen=True)
class Row:
    """One line of the table: sizes in pixels, `bar` against lightly."""

    name: str
    encoder: str
    bar: float
    stem: str = "auto"
    size: int = 32
    stored_size: int = 32
    encoding: str = "raw"
    views: str = "simclr_small"
    batch_size: int = 256
    num_images: int = 10_000


ROWS = {
    "small": Row("SimCLR, 32 px colour, small convnet", "convnet", 4.0),
    "resnet18": Row("SimCLR, 32 px colour, ResNet-18 with 3x3 stem", "resnet18", 8.0, "small"),
    "resnet50": Row(
        "SimCLR, 224 px JPEG, ResNet-50",
        "resnet50",
        1.3,
        "standard",  # also where --quick makes the images small
        size=224,
        stored_size=256,
        encoding="jpeg",
        views="simclr",
        batch_size=128,
        num_images=2048,
    ),
}
RANDOM_BAR = 0.9


def quick(row: Row) -> Row:
    """The same path, tiny."""
    tiny = {"size": min(row.size, 64), "stored_size": min(row.stored_size, 72), "batch_size": 4}
    return replace(row, **tiny, encoder=row.encoder.replace("50", "18"), num_images=64)


def textured(seed: int, size: int) -> Image.Image:
    """Random blotches at every scale, about as hard to code as a photograph."""
    draw = np.random.default_rng(seed)
    total = np.zeros((size, size, 3), np.float32)
    side = 2
    while side <= size:
        noise = draw.integers(0, 256, (side, side, 3), dtype=np.uint8)
        layer = Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR)
        total += (np.asarray(layer, np.float32) - 127.5) / side**0.4
        side *= 2
    return Image.fromarray((127.5 + 0.6 * total).clip(0, 255).astype(np.uint8))


def write_files(folder: Path, *, num_images: int, size: int) -> list[Path]:
    """Textured JPEG files of two classes, written by all cores."""
    paths = [folder / "ab"[n % 2] / f"{n:05d}.jpg" for n in range(num_images)]
    for name in "ab":
        (folder / name).mkdir(parents=True)

    def write(number: int) -> None:
        textured(number, size).save(paths[number], "JPEG", quality=JPEG_QUALITY)

    with ThreadPoolExecutor(num_cores()) as threads:
        list(threads.map(write, range(num_images)))
    return paths


def imported(row: Row, data: Path | None, folder: Path) -> tuple[Splits, list[Path]]:
    """The row's images in a store below `folder`, and the JPEG files that they come from."""
    files: list[Path] = []
    store = folder / f"store-{row.stored_size}"
    if data is not None and row.encoding == "raw":
        import_images(data / "fashion-mnist", store, size=row.stored_size, colour="rgb")
    else:
        source = folder / f"files-{row.stored_size}"
        files = write_files(source, num_images=row.num_images, size=row.stored_size)
        kept = {"val_fraction": 0.05, "test_fraction": 0.05}  # most of them are for the pool
        import_images(source, store, size=row.stored_size, encoding=row.encoding, **kept)
    return load_splits(store), files


def recipe_for(row: Row, splits: Splits, *, precision: str, compiled: bool = False) -> Recipe:
    """SimCLR with its defaults but for what the row says."""
    return Recipe.create(
        "simclr",
        dataset=splits.digest,
        pool_size=min(row.num_images, len(splits.pool)),
        label_size=len(splits.train.classes),
        encoder=EncoderConfig(name=row.encoder, stem=row.stem),
        views=replace(VIEWS[row.views], size=row.size),
        batch_size=row.batch_size,
        precision=precision,
        compile=compiled,
    ).with_overrides({"duration": f"{NUM_STEPS} steps"})


def fed_with_random_tensors(recipe: Recipe, images: Images, device: torch.device) -> Run:
    """The same loop with nothing to read and augment: every batch is the same random views."""
    channels, size = images.shape[0], recipe.views.size
    draw = torch.Generator(device).manual_seed(0)
    shape = (recipe.batch_size, channels, size, size)
    views = [
        torch.randn(shape, generator=draw, device=device).to(memory_format=torch.channels_last)
        for _ in range(recipe.views.num_views)
    ]
    pixels = torch.zeros(1, *images.shape, dtype=torch.uint8, device=device)
    repeated = pixels.expand(len(images), -1, -1, -1)
    blank = TensorImages(repeated, images.labels, images.classes, images.name, images.digest)
    training = Training(recipe, blank, device)

    def run(num_steps: int) -> float:
        fixed = {"return_value": views}
        with (
            mock.patch("raysl.feed.views_of", **fixed),
            mock.patch("raysl.capture.views_of", **fixed),
        ):
            return training.run(num_steps)

    return run


def shown(recipe: Recipe) -> str:
    return f"{recipe.precision}, compiled" if recipe.compile else recipe.precision


def measure(
    row: Row,
    splits: Splits,
    files: list[Path],
    *,
    choices: Sequence[tuple[str, bool]],
    arguments: argparse.Namespace,
) -> None:
    """Time all candidates of a row in turns; print and keep its lines.

    choices: (precision, compiled) of ours; images are read while training in the first.
    """
    device: torch.device = arguments.device
    recipes = [recipe_for(row, splits, precision=p, compiled=c) for p, c in choices]
    recipe = recipes[0]
    pool, labelled = check_splits(recipe, splits)
    stored = trained_images(recipe, pool, labelled)
    held = resident(stored, device)
    jpeg = row.encoding == "jpeg"
    ours: dict[str, Training] = {}
    if jpeg:
        ours[f"{row.name}, {shown(recipe)}, read while training"] = Training(recipe, stored, device)
    if held is not stored or not jpeg:
        where = ", on the device" if jpeg else ""
        ours |= {f"{row.name}, {shown(r)}{where}": Training(r, held, device) for r in recipes}
    runs: dict[str, Run] = {name: training.run for name, training in ours.items()}
    if jpeg:
        runs["random tensors"] = fed_with_random_tensors(recipe, stored, device)
    with contextlib.ExitStack() as stack:
        if lightly_loop.installed():
            # At 32 px they too hold pixels in memory, as torchvision's CIFAR-10 does.
            in_memory = row.encoding == "raw"
            loop = lightly_loop.LightlyLoop(
                recipe,
                pool.read(torch.arange(len(pool))) if in_memory else files,
                size=row.size,
                num_workers=arguments.workers,
                device=device,
                precision=arguments.their_precision,
            )
            runs["lightly"] = stack.enter_context(loop).run
        turns = {}
        for name, run in runs.items():
            multiple = arguments.workers if name == "lightly" else 1  # their batches come in waves
            turns[name] = run, num_steps_for(run, arguments.seconds, multiple=multiple)
        rates = alternate(turns, repeats=arguments.repeats)
    settings = {
        **asdict(row),
        "device_type": device.type,
        "images": "fashion-mnist" if arguments.data and not files else "textures",
        "their_precision": arguments.their_precision,
        "their_workers": arguments.workers,
        "threads": torch.get_num_threads(),
    }
    rest = {"unit": "images/s", "device": device, "commit": arguments.commit}
    others = {
        "lightly": (f"lightly in {arguments.their_precision}", row.bar),
        "random tensors": ("random tensors", RANDOM_BAR),
    }
    for name, training in ours.items():
        chosen = {
            "precision": training.recipe.precision,
            "compile": training.recipe.compile,
            **settings,
        }
        for other, (words, bar) in others.items():
            if other == "random tensors" and training.recipe != recipe:
                continue  # they were timed for the first choice
            title = f"{name}, against {words}"
            if other in rates:
                paired = ([row.batch_size * rate for rate in rates[n]] for n in (name, other))
                line = line_of(title, *paired, bar=bar, settings=chosen, **rest)
                record(line, arguments.results)
            elif other == "lightly":
                print(f"{title}: not measured: {lightly_loop.MISSING}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--rows", help="small on a processor, resnet18,resnet50 on a GPU")
    parser.add_argument("--data", type=Path, help="folder with fashion-mnist in it")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="only this of ours")
    parser.add_argument("--their-precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--workers", type=int, default=num_cores(), help="of lightly's DataLoader")
    arguments = complete(parser.parse_args())
    keep_freed_memory()  # as the command line does; `lightly_loop` undoes it for its turns
    names = arguments.rows or ("small" if arguments.device.type == "cpu" else "resnet18,resnet50")
    best = best_precision(arguments.device)
    precisions = [arguments.precision] if arguments.precision else dict.fromkeys((best, "float32"))
    choices = [(precision, False) for precision in precisions]
    if arguments.device.type == "cuda":
        choices = [(choices[0][0], True), *choices]
    for name in names.split(","):
        row = quick(ROWS[name]) if arguments.quick else ROWS[name]
        with tempfile.TemporaryDirectory() as folder:
            splits, files = imported(row, arguments.data, Path(folder))
            measure(row, splits, files, choices=choices, arguments=arguments)


if __name__ == "__main__":
    main()
