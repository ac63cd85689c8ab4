"""An update as one CUDA graph, and compiled, against the same kernel by kernel: images/s on a GPU.

    python benchmarks/graph.py [--encoders convnet,resnet18] [--quick]

SimCLR at 32 px in colour on images that lie on the device, batches of 256, float32 and bfloat16;
the loop is raysl.train, and all take turns.
"""

import argparse
from dataclasses import replace
from unittest import mock

import torch
from timing import Training, add_options, alternate, complete, line_of, num_steps_for, record

from raysl.data.images import TensorImages
from raysl.encoder import EncoderConfig
from raysl.recipe import Recipe

NUM_IMAGES, SIZE, BATCH_SIZE = 10_000, 32, 256


def images_on(device: torch.device) -> TensorImages:
    draw = torch.Generator().manual_seed(0)
    shape = (NUM_IMAGES, 3, SIZE, SIZE)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw).to(device)
    labels = torch.arange(NUM_IMAGES) % 10
    return TensorImages(pixels, labels, tuple("0123456789"), "noise", "noise")


def measure(encoder: str, precision: str, options: argparse.Namespace) -> None:
    device: torch.device = options.device
    recipe = Recipe.create(
        "simclr",
        dataset="noise",
        pool_size=NUM_IMAGES,
        label_size=100,
        encoder=EncoderConfig(name=encoder),
        batch_size=BATCH_SIZE,
        precision=precision,
    ).with_overrides({"duration": "100000 steps"})
    images = images_on(device)
    training = Training(recipe, images, device)
    compiled = Training(replace(recipe, compile=True), images, device)

    def one_by_one(num_steps: int) -> float:
        with mock.patch("raysl.train.can_capture", return_value=False):
            return training.run(num_steps)

    turns = {
        name: (run, num_steps_for(run, options.seconds))
        for name, run in (
            ("CUDA graph", training.run),
            ("CUDA graph, compiled", compiled.run),
            ("one by one", one_by_one),
        )
    }
    rates = alternate(turns, repeats=options.repeats)
    *graphs, plain = turns
    for name in graphs:
        line = line_of(
            f"{name} of an update, SimCLR, 32 px, {encoder}, {precision}",
            *([BATCH_SIZE * rate for rate in rates[n]] for n in (name, plain)),
            unit="images/s",
            bar=1.0,
            device=device,
            settings={"batch_size": BATCH_SIZE, "device_type": device.type},
            commit=options.commit,
        )
        record(line, options.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--encoders", default="convnet,resnet18")
    options = complete(parser.parse_args())
    if options.device.type != "cuda":
        print("CUDA graph of an update: not measured: no GPU")
        return
    for encoder in options.encoders.split(","):
        for precision in ("float32", "bfloat16"):
            measure(encoder, precision, options)


if __name__ == "__main__":
    main()
