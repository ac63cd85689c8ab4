"""Are the known triggers of a collapse flagged, on images that no limit was set on?

    python benchmarks/collapse.py --data FOLDER [--device cuda --seconds 25 --jobs 15]

The limits of `raysl.methods.collapse` come from UCI digits. Here every case trains on Fashion-MNIST
as in `methods.py`, two seeds: the triggers of the papers, and the same settings without them.
Prints what was flagged, and the k-NN accuracy (val) beside that of random features.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from methods import BATCH_SIZE, POOL, SEEDS, clothes, side_by_side
from timing import append

# At the learning rates at which each collapses within a short training, healthy ones too.
RATES = {
    "byol": {"optim.lr": "1e-2"},
    "simsiam": {"optim.lr": "0.8"},
    "dino": {"optim.lr": "2e-3", "method.num_outputs": "64"},
    "swav": {"optim.lr": "5e-3", "method.num_prototypes": "32"},
}
TRIGGERS = {
    "byol": {
        "no predictor": {"method.predictor": "false"},
        "no stop-gradient": {"method.stop_gradient": "false"},
    },
    "simsiam": {
        "no predictor": {"method.predictor": "false"},
        "no stop-gradient": {"method.stop_gradient": "false"},
    },
    "dino": {
        "no moving average": {"method.ema": "false", "encoder.norm": "group"},
        "centre momentum 0.999": {"method.centre_momentum": "0.999"},
        "temperature 0.08": {
            "method.teacher_temperature": "0.08",
            "method.warmup_temperature": "0.08",
        },
    },
    "swav": {"epsilon 1": {"method.epsilon": "1.0"}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with fashion-mnist in it")
    parser.add_argument("--work", type=Path, default=Path("stores"), help="for its store")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=60.0, help="a training's budget")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    parser.add_argument("--json", type=Path, help="where to append all figures")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    clothes(options.data, options.work)
    common = {"data": "clothes", "encoder": "convnet", "device": options.device, "final": False}
    common |= {"seconds": options.seconds, "batch": BATCH_SIZE, "pool": POOL}
    todo = []
    for method, triggers in TRIGGERS.items():
        for case, changes in {"healthy": {}, **triggers}.items():
            task = {**common, "method": method, "case": case}
            task["overrides"] = {**RATES[method], **changes}
            todo += [{**task, "seed": seed} for seed in SEEDS]
    cases = defaultdict(list)
    for line in side_by_side(todo, options):
        cases[line["method"], line["case"]].append(line)
        if options.json is not None:
            append(line, options.json)
    print(f"{'method':10s} {'case':24s} {'updates':>13s} {'flagged':>8s}  k-NN of val")
    for (method, case), lines in sorted(cases.items()):
        flagged = sum("collapsed" in line["flags"] for line in lines)
        updates = "-".join(str(line["steps"]) for line in lines)
        accuracies = " ".join(f"{line['metrics']['val/knn_top1']:.1f}" for line in lines)
        of = f"{flagged} of {len(lines)}"
        print(f"{method:10s} {case:24s} {updates:>13s} {of:>8s}  {accuracies}")


if __name__ == "__main__":
    main()
