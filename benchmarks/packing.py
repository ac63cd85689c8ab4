"""Many small trainings on one GPU: k side by side, each with a k-th of it, against one by one.

    python benchmarks/packing.py [--trials 8] [--encoder convnet] [--quick]

A study does the first with gpus_per_worker=1/k in its resources. Here each training is a process
that has started already, as Ray's reused workers have; SimCLR at 32 px in colour, batches of 256,
seeds 0 to k - 1, and both ways do the same trainings. On a processor k is the number of cores, with
one of which each trains anyway; the bar is that of a GPU, and no line is kept.

Processes take turns on a GPU unless CUDA's Multi-Process Service lets them use it together; where
CUDA_MPS_PIPE_DIRECTORY says that one runs, the row is another:

    export CUDA_MPS_PIPE_DIRECTORY=/tmp/mps CUDA_MPS_LOG_DIRECTORY=/tmp/mps
    nvidia-cuda-mps-control -d; python benchmarks/packing.py; echo quit | nvidia-cuda-mps-control
"""

import argparse
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch
from graph import BATCH_SIZE, NUM_IMAGES, images_on
from timing import Run, add_options, alternate, complete, line_of, num_cores, record

from raysl.encoder import EncoderConfig
from raysl.memory import keep_freed_memory
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.train import train

BAR = 2.0


def trained(seed: int, encoder: str, steps: int, device: str) -> None:
    """Train one small trial to its end."""
    torch.set_num_threads(1)
    keep_freed_memory()
    recipe = Recipe.create(
        "simclr",
        dataset="noise",
        pool_size=NUM_IMAGES,
        label_size=100,
        encoder=EncoderConfig(name=encoder),
        batch_size=BATCH_SIZE,
        seed=seed,
        duration=Duration(steps, "steps"),
    )
    train(recipe, images_on(torch.device(device)), device=device)
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--trials", type=int, help="k (8 on a GPU)")
    parser.add_argument("--encoder", default="convnet")
    parser.add_argument("--steps", type=int, help="of each training (500)")
    options = complete(parser.parse_args())
    device: torch.device = options.device
    num_trials = options.trials or (8 if device.type == "cuda" else num_cores())
    steps = options.steps or (3 if options.quick else 500)
    os.environ["OMP_NUM_THREADS"] = "1"
    mps = device.type == "cuda" and "CUDA_MPS_PIPE_DIRECTORY" in os.environ
    with ProcessPoolExecutor(num_trials, mp_context=get_context("spawn")) as processes:

        def training(at_once: int) -> Run:
            def run(num_trials: int) -> float:
                started = time.perf_counter()
                for first in range(0, num_trials, at_once):
                    seeds = range(first, min(first + at_once, num_trials))
                    rest = options.encoder, steps, device.type
                    running = [processes.submit(trained, seed, *rest) for seed in seeds]
                    for trial in running:
                        trial.result()
                return time.perf_counter() - started

            return run

        for _ in range(2):  # every process starts and warms up
            list(processes.map(trained, range(num_trials), [options.encoder] * num_trials,
                               [5] * num_trials, [device.type] * num_trials))  # fmt: skip
        runs = {at_once: (training(at_once), num_trials) for at_once in (num_trials, 1)}
        rates = alternate(runs, repeats=options.repeats)
        images = steps * BATCH_SIZE  # of a trial
    line = line_of(
        f"{num_trials} small trials on one {'GPU' if device.type == 'cuda' else 'processor'}, "
        f"{options.encoder}{', MPS' if mps else ''}",
        [images * rate for rate in rates[num_trials]],
        [images * rate for rate in rates[1]],
        unit="images/s",
        bar=BAR,
        device=device,
        settings={"steps": steps, "batch_size": BATCH_SIZE, "device_type": device.type, "mps": mps},
        commit=options.commit,
    )
    record(line, options.results if device.type == "cuda" else None)


if __name__ == "__main__":
    main()
