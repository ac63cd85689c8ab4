"""Where does a step of the training loop wait for the GPU?

    python benchmarks/host_waits.py [--methods simclr,byol]

Each method trains on noise on one GPU; between two reports, every operation that makes the
processor wait for the device is counted by the line of raysl that called it, and so is where views
do. A loop that never waits prepares the next steps while the device works. Exit status 1 if one
waits.
"""

import argparse
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path

import torch
from learning_data import SIZE
from methods import ENCODERS, NEEDS_COLOUR, NEEDS_VIT, NOT_HERE

import raysl
from raysl.data.images import TensorImages
from raysl.methods import METHODS
from raysl.recipe import Recipe
from raysl.signals import StopTrial
from raysl.train import train

WARM, COUNTED = 6, 5  # updates; the first report is due after 40
FOLDER = str(Path(raysl.__file__).parent)


def waits(name: str) -> Counter[str]:
    """Lines that waited in the counted updates of the method, and how often."""
    channels = 3 if name in NEEDS_COLOUR else 1
    pixels = torch.randint(0, 256, (512, channels, SIZE, SIZE), dtype=torch.uint8).cuda()
    labels = torch.arange(512) % 10
    images = TensorImages(pixels, labels, tuple("0123456789"), "noise", "noise")
    encoder = ENCODERS["vit" if name in NEEDS_VIT else "convnet"]
    sizes = {"pool_size": 512} if METHODS[name].trains_on == "pool" else {}
    recipe = Recipe.create(
        name, dataset="noise", label_size=512, encoder=encoder, batch_size=64, **sizes
    ).with_overrides({"duration": "2000 steps"})
    found: Counter[str] = Counter()
    updates = 0

    def note(message, category, filename, lineno, file=None, line=None) -> None:
        if "called a synchronizing" in str(message):  # not the note that the mode is a prototype
            ours = [f for f in traceback.extract_stack() if f.filename.startswith(FOLDER)]
            place = ours[-1]
            found[f"{Path(place.filename).name}:{place.lineno} {place.line}"] += 1

    def interrupted() -> bool:
        nonlocal updates
        updates += 1
        if updates == WARM:
            torch.cuda.set_sync_debug_mode("warn")
        if updates == WARM + COUNTED:
            torch.cuda.set_sync_debug_mode("default")
            raise StopTrial
        return False

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        try:
            train(recipe, images, device="cuda", interrupted=interrupted)
        except StopTrial:
            pass
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods")
    options = parser.parse_args()
    trained = [n for n, m in METHODS.items() if m.trains_on != "nothing" and n not in NOT_HERE]
    waiting = False
    for name in options.methods.split(",") if options.methods else trained:
        found = waits(name)
        print(f"{name:21s} {'no wait' if not found else ''}", flush=True)
        for place, times in found.most_common():
            waiting = True
            print(f"    {times / COUNTED:4.1f} an update  {place}", flush=True)
    sys.exit(int(waiting))


if __name__ == "__main__":
    main()
