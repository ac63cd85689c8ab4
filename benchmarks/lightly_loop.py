"""SimCLR as lightly's documentation writes it in PyTorch: what `pretraining.py` compares with.

Written from https://docs.lightly.ai/self-supervised-learning/examples/simclr.html: a data set of
PIL images, SimCLRTransform in the workers of a DataLoader (shuffle, drop_last), the backbone and
SimCLRProjectionHead, NTXentLoss, SGD with a learning rate of 0.06, one forward pass a view, all in
float32. It is given what our recipe has: encoder, widths of the head, temperature, strengths of the
augmentations. In lightly's favour an epoch never ends, so that its workers start once.

`pip install --no-deps lightly lightning-utilities packaging` is all that these parts need beside
torch and torchvision.
"""

import contextlib
import ctypes
import importlib
import io
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import Stopwatch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from raysl.encoder import build_encoder
from raysl.memory import M_MMAP_MAX, M_TOP_PAD, M_TRIM_THRESHOLD, keep_freed_memory
from raysl.recipe import Recipe
from raysl.rng import global_seed

MISSING = "lightly is not installed"
LEARNING_RATE = 0.06
ENDLESS = 1_000_000  # images of an epoch, so that none ends within a benchmark


def installed() -> bool:
    """Whether the parts of lightly that the loop uses can be imported."""
    try:
        for part in ("loss", "models.modules", "transforms"):
            importlib.import_module(f"lightly.{part}")
    except ImportError:
        return False
    return True


def transform_like(recipe: Recipe, size: int):
    """SimCLRTransform at the recipe's sizes, strengths and probabilities."""
    from lightly.transforms import SimCLRTransform

    views = recipe.views
    return SimCLRTransform(
        input_size=size,
        cj_prob=views.jitter_prob,
        cj_strength=views.colour_strength,
        cj_bright=views.brightness,
        cj_contrast=views.contrast,
        cj_sat=views.saturation,
        cj_hue=views.hue,
        min_scale=views.crop_scale[0],
        random_gray_scale=views.grayscale_prob,
        gaussian_blur=views.blur_prob,
        sigmas=views.blur_sigma,
        hf_prob=views.flip,
    )


class Pictures(Dataset):
    """PIL images from pixels [N, 3, S, S] or from JPEG files, over and over, transformed."""

    def __init__(self, images: Tensor | Sequence[Path], transform):
        in_memory = isinstance(images, Tensor)
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy() if in_memory else images
        self.transform = transform

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, number: int) -> list[Tensor]:
        image = self.images[number % len(self.images)]
        if isinstance(image, np.ndarray):
            return self.transform(Image.fromarray(image))
        return self.transform(Image.open(io.BytesIO(image.read_bytes())).convert("RGB"))


class Model(nn.Module):
    """The backbone and lightly's projection head."""

    def __init__(self, recipe: Recipe, size: int):
        super().__init__()
        from lightly.models.modules import SimCLRProjectionHead

        with global_seed(recipe.seed, "initialisation"):
            self.backbone = build_encoder(recipe.encoder, channels=3, image_size=size)
            hidden, outputs = recipe.method.projector
            self.head = SimCLRProjectionHead(self.backbone.num_features, hidden, outputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images).flatten(start_dim=1))


@contextlib.contextmanager
def memory_given_back() -> Iterator[None]:
    """glibc's own settings as they are once adapted to large blocks, all but two things.

    The single arena stays, since glibc cannot undo it, and the DataLoader's workers were forked
    with raysl's settings and keep them.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    m_mmap_threshold, adapted = -3, 32 * 2**20  # glibc's DEFAULT_MMAP_THRESHOLD_MAX
    libc.mallopt(M_MMAP_MAX, 65536)
    libc.mallopt(m_mmap_threshold, adapted)
    libc.mallopt(M_TRIM_THRESHOLD, 2 * adapted)
    libc.mallopt(M_TOP_PAD, 128 * 1024)
    try:
        yield
    finally:
        keep_freed_memory()


class LightlyLoop:
    """The loop, run in slices of steps; between them its workers are stopped.

    Else they would fill their queue while another candidate is timed, and start the next slice with
    it. precision: "bfloat16" puts the forward passes under autocast, which the documentation has
    not.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Tensor | Sequence[Path],
        *,
        size: int,
        num_workers: int,
        device: torch.device,
        precision: str = "float32",
    ):
        from lightly.loss import NTXentLoss

        self.device = device
        self.bfloat16 = precision == "bfloat16"
        self.model = Model(recipe, size).to(device)
        self.criterion = NTXentLoss(temperature=recipe.method.temperature)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE)
        self.loader = DataLoader(
            Pictures(images, transform_like(recipe, size)),
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
        )
        self.total_loss = torch.zeros((), device=device)

    def __enter__(self) -> "LightlyLoop":
        before = {child.pid for child in multiprocessing.active_children()}
        self.batches = iter(self.loader)
        started = [child.pid for child in multiprocessing.active_children()]
        self.workers = [pid for pid in started if pid is not None and pid not in before]
        self.signal_workers(signal.SIGSTOP)
        return self

    def __exit__(self, *error: object) -> None:
        self.signal_workers(signal.SIGCONT)  # a stopped process does not end
        del self.batches

    def signal_workers(self, number: signal.Signals) -> None:
        for pid in self.workers:
            os.kill(pid, number)

    @contextlib.contextmanager
    def running_workers(self) -> Iterator[None]:
        self.signal_workers(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal_workers(signal.SIGSTOP)

    def run(self, num_steps: int) -> float:
        """Seconds of so many steps, after one that is not counted."""
        watch = Stopwatch(num_steps, warmup=1, device=self.device)
        with self.running_workers(), memory_given_back():
            while not watch.finished:
                self.step()
                watch.step()
        return watch.seconds

    def step(self) -> None:
        first, second = (view.to(self.device) for view in next(self.batches))
        kind = self.device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.bfloat16):
            loss = self.criterion(self.model(first), self.model(second))
        self.total_loss += loss.detach()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
