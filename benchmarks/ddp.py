"""Two workers of one core with DDP against one worker of two cores: images/s of the same training.

    python benchmarks/ddp.py [--encoder convnet] [--quick]

SimCLR at 32 px in colour, the same global batch of 256; the workers are processes that average
their gradients by gloo, as in a trial with workers=2, and the loop is raysl.train in both.
"""

import argparse
import os
import socket
import statistics
from multiprocessing import Process, SimpleQueue, get_context

import torch
import torch.distributed as dist
from graph import BATCH_SIZE, NUM_IMAGES, images_on
from timing import Stopwatch, add_options, best_precision, complete, line_of, record

from raysl.encoder import EncoderConfig
from raysl.memory import keep_freed_memory
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.state import World
from raysl.train import train

BAR = 0.9
WARMUP_STEPS = 3
CPU = torch.device("cpu")


def worker(rank: int, size: int, recipe: Recipe, port: int, answers: SimpleQueue) -> None:
    """One worker's part; rank 0 puts the seconds of the updates after the first few."""
    torch.set_num_threads(2 // size)
    keep_freed_memory()
    if size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=size)
    num_steps = recipe.num_steps - WARMUP_STEPS
    watch = Stopwatch(num_steps, warmup=WARMUP_STEPS, device=CPU)

    def after_update() -> bool:
        watch.step()
        return False

    train(recipe, images_on(CPU), interrupted=after_update, world=World(rank, size))
    if rank == 0:
        answers.put(watch.seconds)
    if size > 1:
        dist.destroy_process_group()


def seconds(size: int, recipe: Recipe) -> float:
    """Of one training by so many workers, started anew."""
    context = get_context("spawn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = context.SimpleQueue()
    workers: list[Process] = [
        context.Process(target=worker, args=(rank, size, recipe, port, answers))
        for rank in range(size)
    ]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
        assert process.exitcode == 0
    return answers.get()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--encoder", default="convnet")
    parser.add_argument("--steps", type=int, help="timed updates of each run (25)")
    options = complete(parser.parse_args())
    steps = options.steps or (2 if options.quick else 25)
    recipe = Recipe.create(
        "simclr",
        dataset="noise",
        pool_size=NUM_IMAGES,
        label_size=100,
        encoder=EncoderConfig(name=options.encoder),
        batch_size=BATCH_SIZE,
        precision=best_precision(CPU),
        duration=Duration(steps + WARMUP_STEPS, "steps"),
    )
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(options.repeats):
        for size in (1, 2) if number % 2 == 0 else (2, 1):
            rates[size].append(steps * BATCH_SIZE / seconds(size, recipe))
    line = line_of(
        f"DDP, 2 workers of 1 core against 1 of 2, {options.encoder}",
        rates[2],
        rates[1],
        unit="images/s",
        bar=BAR,
        device=CPU,
        settings={"steps": steps, "batch_size": BATCH_SIZE, "precision": recipe.precision},
        commit=options.commit,
    )
    record(line, options.results)
    print(f"  {statistics.median(rates[2]):,.0f} and {statistics.median(rates[1]):,.0f} images/s")


if __name__ == "__main__":
    main()
