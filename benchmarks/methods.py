"""Does every method learn? One budget for all on 5,000 unlabelled images, against random features.

    python benchmarks/methods.py --data FOLDER [--methods a,b] [--seconds 120] [--final]
    python benchmarks/methods.py --data FOLDER --device cuda --pool 50000 --batch 256 --seconds 30
    python benchmarks/methods.py --table                     the tables of docs/methods.md

FOLDER holds fashion-mnist (IDX files) and bccd (images and boxes). Every method trains for as many
updates as fit into a budget of processor time on one core, or of time on a GPU that `--jobs`
trainings share, two seeds, with its own defaults on our convnet or small ViT; then k-NN and the
linear probe read 1,000 labels. Methods that need colour train on cells cut out of bccd instead,
read by 100 labels. Results are JSON lines; what is there already of the same torch and device, of
whatever commit, is not run again, so a run that was cut off goes on. Without --final only val is
read; with it the lines printed still show val, so that nothing is chosen by test.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from learning_data import cells, clothes
from learning_table import tables
from timing import append, device_name, read, say_taken

from raysl.data.images import Splits, resident
from raysl.encoder import EncoderConfig
from raysl.memory import keep_freed_memory
from raysl.methods import METHODS
from raysl.provenance import commit
from raysl.recipe import Recipe
from raysl.state import initial_state
from raysl.study.sizes import normalised
from raysl.train import train
from raysl.trial import check_splits, run_trial

RESULTS = Path(__file__).parent / "results" / "methods.jsonl"
SEEDS = (0, 1)
CALIBRATION_STEPS = 24
BATCH_SIZE = 128
POOL = 5000
CELLS = 3000  # of the colour methods' pool
LABELS = {"clothes": 1000, "cells": 100}
VIT = EncoderConfig(name="vit", width=12, patch_size=4)  # 49 patches of 48 features
ENCODERS = {"convnet": EncoderConfig(), "vit": VIT, "vit-avg": replace(VIT, pool="avg")}
# Methods that work with one kind of encoder only; every other one gets the convnet.
NEEDS_VIT = ("mae", "beit", "ijepa", "dinov2")
NEEDS_COLOUR = ("colorization",)
NOT_HERE = ("pretrained", "supervised_source")  # they need other images or weights
COLOUR_TOO = ("random", "simclr", "scratch")  # what the colour methods are compared with


def recipe_for(task: dict[str, Any], splits: Splits) -> Recipe:
    """The method's defaults on this benchmark's encoder and numbers of images."""
    on_pool = METHODS[task["method"]].trains_on == "pool"
    sizes = {"pool_size": task["pool"]} if on_pool else {}
    recipe = Recipe.create(
        task["method"],
        dataset=splits.digest,
        label_size=LABELS[task["data"]],
        encoder=ENCODERS[task["encoder"]],
        batch_size=min(task["batch"], task["pool"] if on_pool else LABELS[task["data"]]),
        seed=task["seed"],
        subset_seed=task["seed"],
        **sizes,
    )
    return normalised(recipe, splits).with_overrides(task["overrides"])


def tasks(names: list[str], budget: dict[str, Any]) -> list[dict[str, Any]]:
    """Every method's trials; random ones for each encoder and data set."""
    found = []
    for name in names:
        if name in NOT_HERE:
            continue
        pool = METHODS[name].encoder_config.pool
        vit = "vit" if pool is None else f"vit-{pool}"
        kinds = [("clothes", vit if name in NEEDS_VIT else "convnet")]
        if name in NEEDS_COLOUR:
            kinds = [("cells", "convnet")]
        elif name in COLOUR_TOO:
            kinds.append(("cells", "convnet"))
        if name in ("random", "dino", "scratch"):
            kinds.append(("clothes", "vit"))
        if name == "random":
            kinds.append(("clothes", "vit-avg"))
        for data, encoder in kinds:
            task = {**budget, "method": name, "data": data, "encoder": encoder}
            if data == "cells":
                task["pool"] = CELLS
            found += [{**task, "seed": seed} for seed in SEEDS]
    return found


def seconds_per_step(recipe: Recipe, splits: Splits, device: str) -> float:
    """Time of the steps after the first few, views and all: the processor's, or on a GPU all."""
    pool, labelled = check_splits(recipe, splits)
    images = pool if recipe.trains_on == "pool" else labelled
    images = resident(images, device)
    recipe = recipe.with_overrides({"duration": f"{CALIBRATION_STEPS} steps"})
    moments: list[float] = []

    def interrupted() -> bool:  # asked after every update
        if device == "cuda":
            torch.cuda.synchronize()
        moments.append(time.perf_counter() if device == "cuda" else time.process_time())
        return False

    state = initial_state(recipe, images, device=device)
    train(recipe, images, device=device, interrupted=interrupted, state=state)
    return statistics.median(b - a for a, b in itertools.pairwise(moments[4:]))


def run_one(task: dict[str, Any], data: Path, work: Path) -> dict[str, Any]:
    """One trial, as a line of the results."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command line and Ray's workers do
    splits = {"clothes": clothes, "cells": cells}[task["data"]](data, work)
    recipe, device = recipe_for(task, splits), task["device"]
    step = 0.0
    if recipe.trains_on != "nothing":
        step = seconds_per_step(recipe, splits, device)
        recipe = replace(
            recipe,
            duration=recipe.duration.parse(f"{max(20, round(task['seconds'] / step))} steps"),
        )
    with tempfile.TemporaryDirectory() as folder:
        result = run_trial(
            recipe, splits, directory=Path(folder), final=task["final"], device=device
        )
    return {
        **task,
        "digest": result.digest,
        "steps": result.cost["steps"],
        "seconds_per_step": step,
        "images": result.cost["examples"],
        "num_examples": recipe.num_trained,
        "metrics": result.metrics,
        "flags": list(result.flags),
        "commit": commit(),
        "device_name": device_name(torch.device(device)),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def key(line: dict[str, Any]) -> tuple:
    names = ("method", "data", "encoder", "seed", "seconds", "final", "device", "pool", "batch")
    return (*(line[name] for name in names), json.dumps(line["overrides"], sort_keys=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with fashion-mnist and bccd in it")
    parser.add_argument("--work", type=Path, default=Path("stores"), help="for their stores")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seconds", type=float, default=120.0, help="a training's budget")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--pool", type=int, default=POOL, help="images of clothes")
    parser.add_argument("--batch", type=int, default=BATCH_SIZE, help="images")
    parser.add_argument("--final", action="store_true", help="read the test split, once")
    parser.add_argument("--set", action="append", default=[], help="field=value of the recipe")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print(tables(read(options.results)))
        return
    if options.data is None:
        parser.error("trials need --data, a folder with fashion-mnist and bccd in it")
    options.work.mkdir(parents=True, exist_ok=True)
    clothes(options.data, options.work)
    cells(options.data, options.work)
    budget = {name: getattr(options, name) for name in ("seconds", "final", "device", "batch")}
    budget |= {"pool": options.pool, "overrides": dict(item.split("=", 1) for item in options.set)}
    here = (torch.__version__, device_name(torch.device(options.device)))
    stored = [
        line for line in read(options.results) if (line["torch"], line["device_name"]) == here
    ]
    done = {key(line): line for line in stored}
    wanted = tasks(options.methods.split(","), budget)
    say_taken([done[key(task)] for task in wanted if key(task) in done], options.results)
    todo = [task for task in wanted if key(task) not in done]
    for line in side_by_side(todo, options):
        append(line, options.results)
        shown = {k: round(v, 2) for k, v in line["metrics"].items() if k.startswith("val/")}
        names = ("method", "data", "encoder", "seed", "steps")
        print(*(line[name] for name in names), shown, line["flags"], flush=True)


def side_by_side(todo: list[dict[str, Any]], options: argparse.Namespace) -> Iterator[dict]:
    """Run the tasks in processes of one thread; those that fail are shown and left out."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as processes:
        running = {
            processes.submit(run_one, task, options.data, options.work): task for task in todo
        }
        for future in as_completed(running):
            if error := future.exception():
                task = running[future]
                print(f"{task['method']} failed (seed {task['seed']})", file=sys.stderr)
                traceback.print_exception(error)
            else:
                yield future.result()


if __name__ == "__main__":
    main()
