"""Model FLOP utilisation of MAE and of DINO's two global crops, ViT-S/16 at 224 px.

    python benchmarks/utilisation.py [--rows mae,mae_wide,dino] [--quick]

mae_wide has the decoder of MAE's authors, 8 blocks of 512 features; mae the one that follows from
the encoder by raysl's rule, 4 of 192, whose narrow products keep a GPU's memory busier.

utilisation = model FLOPs of an image x images/s of the training loop / the device's matrix rate

Model FLOPs are those of the multiplications and additions in the matrix products and convolutions
of one forward and one backward pass of the method, counted by torch's FlopCounterMode with the
attention written out as two products: the encoder on what it sees, heads, decoder and teacher, but
nothing that a kernel computes a second time, no elementwise work and no views. The rate is that of
8192^3 matrix products in the loop's precision, one by one, the median of 10, measured beside each
turn of the loop. The loop is raysl.train with images as a trial has them, views and all, and on a
GPU with compile=true.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from pretraining import Row, imported
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
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raysl.data.images import Images, resident
from raysl.encoder import EncoderConfig
from raysl.feed import make_batch
from raysl.methods import METHODS
from raysl.recipe import Recipe
from raysl.state import initial_state
from raysl.trial import check_splits, trained_images
from raysl.views import VIEWS

BAR = 0.4
NUM_MATRICES = 10
SIDE, QUICK_SIDE = 8192, 512  # of the square matrices
VIT = Row("", "vit_small_patch16_224", BAR, size=224, stored_size=224, num_images=2048)
ROWS = {
    "mae": replace(VIT, name="MAE, ViT-S/16, 224 px", batch_size=512),
    "mae_wide": replace(VIT, name="MAE, decoder 8 x 512, ViT-S/16, 224 px", batch_size=512),
    "dino": replace(VIT, name="DINO, two global crops, ViT-S/16, 224 px", batch_size=128),
}
VIEWS_OF = {"mae": METHODS["mae"].views, "dino": replace(VIEWS["dino"], num_local_views=0)}


def recipe_for(name: str, row: Row, splits, *, precision: str, compiled: bool) -> Recipe:
    """The method with its defaults but for the ViT and what the row is about."""
    method = name.removesuffix("_wide")
    wide = {"method.decoder_width": 512, "method.decoder_depth": 8} if method != name else {}
    pool = METHODS[method].encoder_config.pool
    return Recipe.create(
        method,
        dataset=splits.digest,
        pool_size=len(splits.pool),
        label_size=len(splits.train.classes),
        encoder=EncoderConfig(name=row.encoder, pool=pool),
        views=VIEWS_OF[method],
        batch_size=row.batch_size,
        precision=precision,
        compile=compiled,
    ).with_overrides({"duration": "100000 steps", **wide})


def flops_an_image(recipe: Recipe, images: Images, *, num_images: int = 2) -> int:
    """Model FLOPs of one image's forward and backward pass, counted on the processor."""
    method = initial_state(recipe, images).method.train()
    batch = make_batch(
        recipe,
        images,
        torch.arange(num_images),
        None,
        step=0,
        progress=0.0,
        device="cpu",
        purpose="views 0",
    )
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        method(batch)["loss"].backward()
    return counter.get_total_flops() // num_images


def matrix_products(side: int, device: torch.device, *, precision: str) -> Run:
    """Square matrix products: a run of n takes n times the median of each alone."""
    dtype = getattr(torch, precision)
    draw = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(side, side, generator=draw, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def once() -> float:
        synchronise(device)
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        synchronise(device)
        return time.perf_counter() - start

    def run(num_products: int) -> float:
        once()  # the clock rises again after a pause
        return num_products * statistics.median(once() for _ in range(num_products))

    return run


def measure(name: str, row: Row, arguments: argparse.Namespace) -> None:
    """Time the loop and the products in turns; print and keep the line."""
    device: torch.device = arguments.device
    precision = best_precision(device)
    with tempfile.TemporaryDirectory() as folder:
        splits, _ = imported(row, None, Path(folder))
        recipe = recipe_for(name, row, splits, precision=precision, compiled=device.type == "cuda")
        stored = trained_images(recipe, *check_splits(recipe, splits))
        images = resident(stored, device)
        flops = flops_an_image(recipe, stored)
        side = QUICK_SIDE if arguments.quick else SIDE
        training = Training(recipe, images, device)
        num_steps = num_steps_for(training.run, arguments.seconds)
        runs = {
            "training": (training.run, num_steps),
            "products": (matrix_products(side, device, precision=precision), NUM_MATRICES),
        }
        rates = alternate(runs, repeats=arguments.repeats)
    images_a_second = [rate * row.batch_size for rate in rates["training"]]
    print(f"{row.name}: {flops / 1e9:.2f} GFLOP an image, forward and backward")
    if device.type == "cuda":
        print(f"  {statistics.median(images_a_second):,.0f} images/s")
    line = line_of(
        f"{row.name}, of the matrix rate",
        [rate * flops / 1e12 for rate in images_a_second],
        [rate * 2 * side**3 / 1e12 for rate in rates["products"]],
        unit="TFLOP/s",
        bar=BAR,
        device=device,
        settings={
            **asdict(row),
            "device_type": device.type,
            "precision": precision,
            "compile": recipe.compile,
            "side": side,
            "flops_an_image": flops,
            "views": asdict(recipe.views),
        },
        commit=arguments.commit,
    )
    record(line, arguments.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--rows", default=",".join(ROWS))
    arguments = complete(parser.parse_args())
    for name in arguments.rows.split(","):
        row = ROWS[name]
        if arguments.quick:
            tiny = {"encoder": "vit_tiny_patch16_224", "size": 32, "stored_size": 32}
            row = replace(row, **tiny, batch_size=4, num_images=64)
        measure(name, row, arguments)


if __name__ == "__main__":
    main()
