"""Does speed cost accuracy? The fast path and a plain one, the same SimCLR recipe and seeds.

    python benchmarks/fast_path.py --data FOLDER [--seeds 3] [--quick]

fast: bfloat16, channels_last, compiled, and both views of a batch in one pass, as a user can have
them. plain: float32, PyTorch's usual layout, and every view made alone from a PIL image by
torchvision, with the probabilities and strengths of the recipe. Both train our convnet on the same
5,000 images of Fashion-MNIST for 20 epochs from the same weights in the same order, as trials do
(`run_trial`), and are evaluated in float32 by k-NN and the linear probe on val.

Prints fast less plain in points of top-1 accuracy, paired by seed, with the 90 % interval of its
mean. FOLDER holds fashion-mnist (IDX files). Each trial is one JSON line; what is there already of
the same commit, torch and device is not run again, so a benchmark that was cut off goes on. Trials
of changed code that is in no commit are always run.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from learning_data import clothes
from scipy import stats
from timing import append, device_name, read, say_taken
from torch import Tensor
from torchvision import transforms

from raysl.data.images import Images, Splits
from raysl.methods import Batch
from raysl.provenance import commit
from raysl.recipe import Recipe
from raysl.rng import generator, global_seed
from raysl.study.sizes import normalised
from raysl.trial import run_trial
from raysl.views import ViewConfig

RESULTS = Path(__file__).parent / "results" / "fast_path.jsonl"
BAR = 0.5  # points
CONFIDENCE = 0.9
METRICS = ("val/knn_top1", "val/linear_top1")
PATHS = {
    "fast": {"precision": "bfloat16", "channels_last": True, "compile": True},
    "plain": {"precision": "float32", "channels_last": False},
}


def mean_interval(
    values: Sequence[float], *, confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Mean, and the ends of Student's interval of it; infinite for one value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, -float("inf"), float("inf")
    error = statistics.stdev(values) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean, mean - half, mean + half


def torchvision_view(views: ViewConfig, size: int, channels: int) -> transforms.Compose:
    """One random view of a PIL image, as torchvision makes the recipe's crop, flip and colours."""
    colours = (views.brightness, views.contrast, views.saturation, views.hue)
    jitter = transforms.ColorJitter(*(views.colour_strength * strength for strength in colours))
    mean, std = ((values * channels)[:channels] for values in (views.mean, views.std))
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, views.crop_scale, views.crop_ratio),
            transforms.RandomHorizontalFlip(views.flip),
            transforms.RandomApply([jitter], views.jitter_prob),
            transforms.RandomGrayscale(views.grayscale_prob),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def image_by_image(
    recipe: Recipe,
    images: Images,
    index: Tensor,
    labels: Tensor | None,
    *,
    step: int,
    progress: float,
    device: torch.device | str,
    purpose: str,
) -> Batch:
    """What `raysl.feed.make_batch` gives, its views made one by one on the processor."""
    assert labels is None, "SimCLR trains without labels"
    channels, size, _ = images.shape
    transform = torchvision_view(recipe.views, recipe.views.size or size, channels)
    pictures = [transforms.functional.to_pil_image(image) for image in images.read(index).cpu()]
    with global_seed(recipe.seed, purpose, step):
        views = [
            torch.stack([transform(picture) for picture in pictures]).to(device)
            for _ in range(recipe.views.num_views)
        ]
    own = generator(recipe.seed, "method", step, device=device)
    return Batch(views, index.to(device), None, progress, own)


def recipe_for(path: str, splits: Splits, *, seed: int, options: argparse.Namespace) -> Recipe:
    recipe = Recipe.create(
        "simclr",
        dataset=splits.digest,
        pool_size=options.pool,
        label_size=options.labels,
        batch_size=options.batch,
        seed=seed,
        subset_seed=seed,
        **PATHS[path],
    ).with_overrides({"duration": f"{options.epochs:g} epochs"})
    recipe = normalised(recipe, splits)
    views = recipe.views
    covered = replace(views, blur_prob=0, solarize_prob=0, vertical_flip=0, rotation=0)
    assert covered == views, "torchvision_view makes the views of simclr_small"
    return recipe


def run_one(path: str, recipe: Recipe, splits: Splits, device: str) -> dict[str, Any]:
    """One trial, as a line of the results."""
    plain = mock.patch("raysl.train.make_batch", image_by_image)
    with (
        tempfile.TemporaryDirectory() as folder,
        plain if path == "plain" else contextlib.nullcontext(),
    ):
        result = run_trial(recipe, splits, directory=Path(folder), final=False, device=device)
    return {
        "path": path,
        "seed": recipe.seed,
        "digest": result.digest,
        "metrics": {name: result.metrics[name] for name in METRICS},
        "train_seconds": result.cost["train_seconds"],
        "steps": result.cost["steps"],
        "flags": list(result.flags),
        "recipe": {name: recipe.to_dict()[name] for name in ("pool_size", "batch_size")}
        | {"duration": str(recipe.duration), "views": asdict(recipe.views)},
        "device": device,
        "device_name": device_name(torch.device(device)),
        "torch": torch.__version__,
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def reusable(results: Path | None, device: str) -> list[dict[str, Any]]:
    """Stored lines of this very code, torch and device."""
    code = commit()
    if results is None or code is None or code.endswith("-dirty"):
        return []
    here = (code, torch.__version__, device, device_name(torch.device(device)))
    names = ("commit", "torch", "device", "device_name")
    return [line for line in read(results) if tuple(line[name] for name in names) == here]


def verdict(mean: float, low: float, *, bar: float) -> str:
    """Of a gain in points: its mean decides what is missed, the whole interval what is reached."""
    if mean < -bar:
        return "missed"
    return "reached" if low > -bar else "not decided, more seeds needed"


def report(lines: Sequence[dict[str, Any]]) -> None:
    """Print the differences of the seeds that both paths have."""
    found = {(line["path"], line["seed"]): line for line in lines}
    seeds = sorted({seed for _, seed in found if {("fast", seed), ("plain", seed)} <= found.keys()})
    for name in METRICS:
        pairs = [[found[path, seed]["metrics"][name] for path in PATHS] for seed in seeds]
        mean, low, high = mean_interval([fast - plain for fast, plain in pairs])
        fast, plain = (statistics.fmean(values) for values in zip(*pairs, strict=True))
        print(
            f"{name}: fast {fast:.2f} %, plain {plain:.2f} %, difference {mean:+.2f} points "
            f"({low:+.2f} to {high:+.2f}, 90 % interval of {len(seeds)} seeds), "
            f"bar {-BAR} {verdict(mean, low, bar=BAR)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with fashion-mnist in it")
    parser.add_argument("--work", type=Path, default=Path("stores"), help="for its store")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--pool", type=int, help="images to pretrain on (5,000)")
    parser.add_argument("--epochs", type=float, help="of pretraining (20)")
    parser.add_argument("--batch", type=int, help="images (128)")
    parser.add_argument("--labels", type=int, help="labelled images of k-NN and probe (1,000)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for smoke tests")
    parser.add_argument("--results", type=Path, help="JSON lines; quick runs keep none without it")
    options = parser.parse_args()
    sizes = {"pool": (5000, 64), "epochs": (20, 1), "batch": (128, 16), "labels": (1000, 50)}
    for name, (full, tiny) in sizes.items():
        setattr(options, name, getattr(options, name) or (tiny if options.quick else full))
    if options.results is None and not options.quick:
        options.results = RESULTS
    options.work.mkdir(parents=True, exist_ok=True)
    splits = clothes(options.data, options.work)
    # A digest stands for all of the recipe, but the two paths differ in more than their recipes.
    stored = reusable(options.results, options.device)
    done = {(line["path"], line["digest"]): line for line in stored}
    lines, taken = [], []
    for seed in range(options.seeds):
        for path in PATHS:
            recipe = recipe_for(path, splits, seed=seed, options=options)
            line = done.get((path, recipe.digest()))
            if line is not None:
                taken.append(line)
            else:
                line = run_one(path, recipe, splits, options.device)
                if options.results:
                    append(line, options.results)
            lines.append(line)
            shown = {name: round(value, 2) for name, value in line["metrics"].items()}
            print(path, f"seed {seed}", shown, line["flags"] or "", flush=True)
    report(lines)
    if options.results:
        say_taken(taken, options.results)


if __name__ == "__main__":
    main()
