"""Views per second: ours, torchvision's transforms on PIL images, and kornia in batches.

    python benchmarks/views.py --size 32 --batch 512 --device cpu --threads 1

The recipe is SimCLR's (two views: crop, flip, jitter, grayscale), without and with blur; all
three end with a normalised float tensor on the device. Each line is the median of runs that
alternate between the three, so that a busy moment does not hit one alone. kornia comes with
`pip install -e ".[bench]"`.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision import transforms

from raysl.views import VIEWS, ViewConfig, make_views
from raysl.views.filters import blur_radius

Run = Callable[[], list[Tensor]]


def ours(images: Tensor, config: ViewConfig) -> Run:
    generator = torch.Generator(images.device).manual_seed(0)
    return lambda: make_views(images, config, generator)


def torchvision_on_pil(images: Tensor, config: ViewConfig) -> Run:
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


def kornia_batched(images: Tensor, config: ViewConfig) -> Run:
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


def timed(run: Run, device: torch.device) -> float:
    """Seconds of one batch."""
    start = time.perf_counter()
    with torch.no_grad():
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--batch", type=int, default=512, help="images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).to(device)

    candidates = {
        "raysl": ours,
        "PIL (torchvision, image by image)": torchvision_on_pil,
        "kornia (batched)": kornia_batched,
    }
    print(
        f"{options.size} px colour, batches of {options.batch} images, "
        f"{device}, {options.threads} thread(s), torch {torch.__version__}"
    )
    for label, blur_prob in (("without blur", 0.0), ("with blur", 0.5)):
        config = dataclasses.replace(VIEWS["simclr"], blur_prob=blur_prob)
        runs: dict[str, Run] = {}
        absent: dict[str, str] = {}
        for name, make in candidates.items():
            try:
                runs[name] = make(images, config)
            except ImportError as error:
                absent[name] = str(error)
        for run in runs.values():  # warm up
            timed(run, device)
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.repeats):
            for name, run in runs.items():
                seconds[name].append(timed(run, device))
        num_views = config.num_views * options.batch
        rate = {name: num_views / statistics.median(times) for name, times in seconds.items()}
        print(f"\nSimCLR {label}: views/s, median (best)")
        for name in candidates:
            if name in absent:
                print(f"  {name:34s}  not measured: {absent[name]}")
                continue
            best = num_views / min(seconds[name])
            ratio = rate["raysl"] / rate[name]
            print(f"  {name:34s} {rate[name]:10,.0f} ({best:,.0f})   ours is {ratio:.1f} x")


if __name__ == "__main__":
    main()
