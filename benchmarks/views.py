"""Views per second: ours, torchvision's transforms on PIL images, and kornia in batches.

    python benchmarks/views.py --size 32 --batch 512 --device cpu --threads 1

The recipe is SimCLR's (two views: crop, flip, jitter, grayscale), without and with blur; all
three end with a normalised float tensor on the device and take turns. kornia comes with
`pip install -e ".[bench]"`.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from timing import (
    Run,
    add_options,
    alternate,
    complete,
    line_of,
    num_steps_for,
    record,
    synchronise,
)
from torch import Tensor
from torchvision import transforms

from raysl.views import VIEWS, ViewConfig, make_views
from raysl.views.filters import blur_radius

Make = Callable[[], list[Tensor]]  # the views of one batch
BARS = {"PIL (torchvision, image by image)": 10.0, "kornia (batched)": 3.0}


def ours(images: Tensor, config: ViewConfig) -> Make:
    generator = torch.Generator(images.device).manual_seed(0)
    return lambda: make_views(images, config, generator)


def torchvision_on_pil(images: Tensor, config: ViewConfig) -> Make:
    """Image by image, as in a data loader without workers."""
    size = images.shape[-1]
    steps = [
        transforms.RandomResizedCrop(size, config.crop_scale, config.crop_ratio),
        transforms.RandomHorizontalFlip(config.flip),
        transforms.RandomApply([transforms.ColorJitter(*strengths(config))], config.jitter_prob),
        transforms.RandomGrayscale(config.grayscale_prob),
    ]
    if config.blur_prob:
        blur = transforms.GaussianBlur(2 * blur_radius(size) + 1, config.blur_sigma)
        steps.append(transforms.RandomApply([blur], config.blur_prob))
    steps += [transforms.ToTensor(), transforms.Normalize(config.mean * 3, config.std * 3)]
    transform = transforms.Compose(steps)
    pictures = [transforms.functional.to_pil_image(image) for image in images.cpu()]
    return lambda: [
        torch.stack([transform(picture) for picture in pictures]).to(images.device)
        for _ in range(config.num_views)
    ]


def kornia_batched(images: Tensor, config: ViewConfig) -> Make:
    """Raises ImportError where kornia is not installed."""
    import kornia.augmentation as K

    size = images.shape[-1]
    kernel = 2 * blur_radius(size) + 1
    steps = [
        K.RandomResizedCrop((size, size), config.crop_scale, config.crop_ratio),
        K.RandomHorizontalFlip(p=config.flip),
        K.ColorJitter(*strengths(config), p=config.jitter_prob),
        K.RandomGrayscale(p=config.grayscale_prob),
    ]
    if config.blur_prob:
        steps.append(K.RandomGaussianBlur((kernel, kernel), config.blur_sigma, p=config.blur_prob))
    steps.append(K.Normalize(torch.tensor(config.mean * 3), torch.tensor(config.std * 3)))
    augment = torch.nn.Sequential(*steps).to(images.device)
    return lambda: [augment(images.float() / 255) for _ in range(config.num_views)]


def strengths(config: ViewConfig) -> tuple[float, float, float, float]:
    return config.brightness, config.contrast, config.saturation, config.hue


CANDIDATES = {
    "raysl": ours,
    "PIL (torchvision, image by image)": torchvision_on_pil,
    "kornia (batched)": kornia_batched,
}


def timed(make: Make, device: torch.device) -> Run:
    """Makes views batch after batch; the last is waited for."""

    def run(num_batches: int) -> float:
        synchronise(device)
        start = time.perf_counter()
        with torch.no_grad():
            for _ in range(num_batches):
                make()
        synchronise(device)
        return time.perf_counter() - start

    return run


def measure(label: str, images: Tensor, config: ViewConfig, arguments: argparse.Namespace) -> None:
    """Time all candidates in turns; print their rates, print and keep the lines."""
    device: torch.device = arguments.device
    turns: dict[str, tuple[Run, int]] = {}
    absent: dict[str, str] = {}
    for name, candidate in CANDIDATES.items():
        try:
            run = timed(candidate(images, config), device)
        except ImportError as error:
            absent[name] = str(error)
            continue
        turns[name] = run, num_steps_for(run, arguments.seconds)
    num_views = config.num_views * len(images)
    rates = {
        name: [num_views * rate for rate in found]
        for name, found in alternate(turns, repeats=arguments.repeats).items()
    }
    print(f"\nSimCLR {label}: views/s, median (best)")
    for name in CANDIDATES:
        if name in absent:
            print(f"  {name:34s}  not measured: {absent[name]}")
        else:
            print(f"  {name:34s} {statistics.median(rates[name]):10,.0f} ({max(rates[name]):,.0f})")
    for name in [name for name in BARS if name in rates]:
        line = line_of(
            f"SimCLR views {label}, against {name}",
            rates["raysl"],
            rates[name],
            unit="views/s",
            bar=BARS[name],
            device=device,
            settings={
                **{n: getattr(arguments, n) for n in ("size", "batch", "threads")},
                "device_type": device.type,
            },
            commit=arguments.commit,
        )
        record(line, arguments.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--batch", type=int, help="images (512)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = complete(parser.parse_args())
    arguments.batch = arguments.batch or (8 if arguments.quick else 512)
    torch.set_num_threads(arguments.threads)
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images = images.to(arguments.device)
    print(
        f"{arguments.size} px colour, batches of {arguments.batch} images, "
        f"{arguments.device}, {arguments.threads} thread(s), torch {torch.__version__}"
    )
    for label, blur_prob in (("without blur", 0.0), ("with blur", 0.5)):
        config = dataclasses.replace(VIEWS["simclr"], blur_prob=blur_prob)
        measure(label, images, config, arguments)


if __name__ == "__main__":
    main()
