"""The linear probe with its whole regularisation path, beside one probe trained by SGD.

    python benchmarks/probe.py [--data FOLDER] [--labels 1000] [--repeats 5] [--quick]

Ours is the user's path: `raysl.evaluation.evaluate` extracts the features of the labelled and the
val images once and fits all penalties. Theirs is the usual protocol, `sgd_probe.py`.

On a processor the path's solver is also timed alone, on stored features, beside scikit-learn's
LogisticRegression (L-BFGS, each penalty from the solution of the one before).

Both get the same encoder, pretrained for a moment by SimCLR, and the same labelled images, others
in each repeat; both are then read on the test images, which choose nothing. Of each row the ratio
of times, and the difference of accuracies in points with its 90 % interval over the repeats. FOLDER
holds fashion-mnist (IDX files); without it the images are scikit-learn's digits at 28 px.
"""

import argparse
import copy
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from fast_path import mean_interval, verdict
from learning_data import SIZE, clothes
from sgd_probe import BATCH, EPOCHS, accuracy, sgd_probe
from timing import add_options, complete, line_of, num_cores, record, synchronise

from raysl.data.digits import DIGITS
from raysl.data.images import Splits, Subset
from raysl.data.importer import import_images
from raysl.data.store import load_splits
from raysl.data.subset import nested_order
from raysl.encoder import Encoder, EncoderConfig
from raysl.evaluation import EvaluationConfig, evaluate
from raysl.evaluation.features import Labelled, extract, top_accuracy
from raysl.evaluation.linear import predict
from raysl.recipe import Recipe
from raysl.study.sizes import normalised
from raysl.train import train
from raysl.trial import check_splits, trained_images
from raysl.views import ViewConfig

BAR = 50.0
ACCURACY_BAR = 0.3  # points
SKLEARN_STEPS = 1000  # of L-BFGS at most; its default of 100 ends early at weak penalties
VAL_SHARE = 0.25  # val images for each labelled one
EVALUATION = EvaluationConfig(protocols=("linear",), batch_size=BATCH)  # both sides' batch


def opened(data: Path | None, folder: Path) -> Splits:
    if data is not None:
        return clothes(data, folder)
    import_images(DIGITS, folder / "digits", size=SIZE)
    return load_splits(folder / "digits")


def pretrained(splits: Splits, arguments: argparse.Namespace) -> tuple[Encoder, ViewConfig]:
    """An encoder after a short SimCLR training, and the normalisation that it knows."""
    pool_size = min(5000, len(splits.pool))
    recipe = Recipe.create(
        "simclr",
        dataset=splits.digest,
        pool_size=pool_size,
        label_size=len(splits.train.classes),
        encoder=EncoderConfig(name=arguments.encoder),
        batch_size=min(256, pool_size),
    ).with_overrides({"duration": f"{arguments.steps} steps"})
    recipe = normalised(recipe, splits)
    images = trained_images(recipe, *check_splits(recipe, splits))
    state = train(recipe, images, device=arguments.device)
    return state.method.evaluated, recipe.views


def subset(splits: Splits, *, num_labels: int, seed: int) -> Splits:
    """Some labelled images of train, and fewer of val than that; all of test."""
    labels = splits.train.labels.numpy()
    num_val = min(len(splits.val), round(VAL_SHARE * num_labels))
    train_order = nested_order(len(labels), seed, labels)[:num_labels].copy()
    val_order = nested_order(len(splits.val), seed)[:num_val].copy()
    return replace(
        splits,
        train=Subset(splits.train, torch.from_numpy(train_order)),
        val=Subset(splits.val, torch.from_numpy(val_order)),
    )


def our_probe(
    encoder: Encoder, data: Splits, views: ViewConfig, *, test: bool, device: torch.device
) -> tuple[float, float | None]:
    """Seconds of one call of `evaluate`, and the accuracy on test in percent if asked for."""
    synchronise(device)
    start = time.perf_counter()
    found = evaluate(
        encoder,
        train=data.train,
        val=data.val,
        test=data.test if test else None,
        views=views,
        config=EVALUATION,
        device=device,
    )
    synchronise(device)
    return time.perf_counter() - start, found.metrics.get("test/linear_top1")


def measure(
    splits: Splits, encoder: Encoder, views: ViewConfig, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The line of both probes on other labelled images in each repeat."""
    device: torch.device = arguments.device
    test_features = extract(
        encoder, splits.test, views, device=device, batch_size=EVALUATION.batch_size
    )
    ours, theirs, differences, chosen_rates = [], [], [], []
    for seed in range(arguments.repeats):
        data = subset(splits, num_labels=arguments.labels, seed=seed)
        _, our_top1 = our_probe(encoder, data, views, test=True, device=device)
        before, _ = our_probe(encoder, data, views, test=False, device=device)
        start = time.perf_counter()
        head, rate = sgd_probe(
            encoder,
            data.train,
            data.val,
            views,
            epochs=arguments.epochs,
            num_workers=num_cores(),
            seed=seed,
            device=device,
        )
        seconds = time.perf_counter() - start
        after, _ = our_probe(encoder, data, views, test=False, device=device)
        their_top1 = accuracy(head, test_features, splits.test.labels)
        ours.append(2 / (before + after))
        theirs.append(1 / seconds)
        differences.append(our_top1 - their_top1)
        chosen_rates.append(rate)
        print(
            f"  labels {seed}: {our_top1:.2f} % and {their_top1:.2f} % (learning rate "
            f"{rate:g}), {2 * seconds / (before + after):.0f} times faster",
            flush=True,
        )
    line = line_of(
        f"linear probe with its path, against {arguments.epochs} epochs of SGD",
        ours,
        theirs,
        unit="probes/s",
        bar=BAR,
        device=device,
        settings=settings_of(splits, arguments)
        | {"epochs": arguments.epochs, "workers": num_cores()},
        commit=arguments.commit,
    )
    mean, low, high = mean_interval(differences)
    print(
        f"accuracy, ours less theirs: {mean:+.2f} points ({low:+.2f} to {high:+.2f}, 90 % interval "
        f"of {len(differences)} sets of labels), bar {-ACCURACY_BAR} "
        f"{verdict(mean, low, bar=ACCURACY_BAR)}"
    )
    points = {"difference": mean, "low": low, "high": high}
    return {**line, "points": points, "learning_rates": chosen_rates}


def sklearn_accuracy(train: Labelled, val: Labelled, test: Labelled) -> tuple[float, float]:
    """Seconds of scikit-learn's whole path with its choice on val, and its accuracy on test."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x, labels = (a.numpy() for a in (train.features, train.labels))
    start = time.perf_counter()
    scaler = StandardScaler().fit(x)
    x, val_x = scaler.transform(x), scaler.transform(val.features.numpy())
    model = LogisticRegression(max_iter=SKLEARN_STEPS, warm_start=True)
    best, probe = -1.0, model
    for penalty in sorted(EVALUATION.linear_penalties, reverse=True):
        model.set_params(C=1 / penalty).fit(x, labels)
        found = model.score(val_x, val.labels.numpy())
        if found > best:
            best, probe = found, copy.deepcopy(model)
    seconds = time.perf_counter() - start
    read = probe.score(scaler.transform(test.features.numpy()), test.labels.numpy())
    return seconds, 100 * float(read)


def our_accuracy(train: Labelled, val: Labelled, test: Labelled) -> tuple[float, float]:
    """The same of ours."""
    num_classes = int(train.labels.max()) + 1
    held_out = {"val": val, "test": test}
    start = time.perf_counter()
    found = predict(train, held_out, num_classes=num_classes, config=EVALUATION)
    seconds = time.perf_counter() - start
    return seconds, top_accuracy(found.scores["test"], test.labels, 1)


def measure_solver(
    splits: Splits, encoder: Encoder, views: ViewConfig, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The line of the two solvers on the same stored features, others in each repeat."""
    rates: dict[str, list[float]] = {"ours": [], "theirs": []}
    differences = []
    sides = {"ours": our_accuracy, "theirs": sklearn_accuracy}
    for seed in range(arguments.repeats):
        data = subset(splits, num_labels=arguments.labels, seed=seed)
        stored = [
            Labelled(
                extract(encoder, images, views, device=arguments.device, batch_size=BATCH),
                images.labels,
            )
            for images in (data.train, data.val, data.test)
        ]
        read = {}
        for name in sides if seed % 2 == 0 else reversed(sides):
            seconds, read[name] = sides[name](*stored)
            rates[name].append(1 / seconds)
        differences.append(read["ours"] - read["theirs"])
    mean, low, high = mean_interval(differences)
    print(f"accuracy on stored features: {mean:+.2f} points ({low:+.2f} to {high:+.2f})")
    line = line_of(
        "linear probe's path on stored features, against scikit-learn's L-BFGS",
        rates["ours"],
        rates["theirs"],
        unit="paths/s",
        bar=1.0,
        device=arguments.device,
        settings=settings_of(splits, arguments),
        commit=arguments.commit,
    )
    return {**line, "points": {"difference": mean, "low": low, "high": high}}


def settings_of(splits: Splits, arguments: argparse.Namespace) -> dict[str, Any]:
    """What both rows have in common."""
    return {
        "device_type": arguments.device.type,
        "images": splits.name,
        "labels": arguments.labels,
        "encoder": arguments.encoder,
        "pretraining_steps": arguments.steps,
        "penalties": len(EVALUATION.linear_penalties),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--data", type=Path, help="folder with fashion-mnist in it")
    parser.add_argument("--labels", type=int, help="1,000 on a processor, 5,000 on a GPU")
    parser.add_argument("--encoder", help="convnet on a processor, resnet18 on a GPU")
    parser.add_argument("--steps", type=int, help="of SimCLR before the probes (50)")
    parser.add_argument("--epochs", type=int, help=f"of SGD ({EPOCHS})")
    arguments = complete(parser.parse_args())
    on_gpu = arguments.device.type == "cuda"
    quick = arguments.quick
    arguments.labels = arguments.labels or (200 if quick else 5000 if on_gpu else 1000)
    arguments.encoder = arguments.encoder or ("resnet18" if on_gpu and not quick else "convnet")
    arguments.steps = arguments.steps or (2 if quick else 50)
    arguments.epochs = arguments.epochs or (2 if quick else EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        splits = opened(arguments.data, Path(folder))
        arguments.labels = min(arguments.labels, len(splits.train))
        encoder, views = pretrained(splits, arguments)
        record(measure(splits, encoder, views, arguments), arguments.results)
        if not on_gpu:
            record(measure_solver(splits, encoder, views, arguments), arguments.results)


if __name__ == "__main__":
    main()
