"""The training loop: one function for every method, on one device or as one DDP worker."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from raysl.data.images import Images
from raysl.data.subset import batch_indices
from raysl.encoder import build_encoder
from raysl.methods import METHODS, Batch, Method
from raysl.optim import build_optimizer, lr_factor, set_lr
from raysl.recipe import Recipe
from raysl.rng import derive_seed, generator, global_seed
from raysl.views import eval_view, make_views

REPORT_SECONDS = 2.0  # a report is due at least this often ...
REPORTS = 50  # ... and this often a training, whatever its length


class StopTrial(Exception):
    """Raised by a report to end the trial early; what was measured so far is kept."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to end; the state was saved and the same command resumes."""


@dataclass(frozen=True)
class World:
    """This worker's place among the workers of one trial."""

    rank: int = 0
    size: int = 1


@dataclass
class TrainState:
    """All that a resume needs: live modules and counters. Randomness needs no state.

    seconds, num_examples: spent on training so far, over restarts.
    best: with early stopping, loss, step and weights of the best look, and looks since then.
    """

    method: Method
    optimizer: torch.optim.Optimizer
    num_steps: int
    step: int = 0
    seconds: float = 0.0
    num_examples: int = 0
    best: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write to `path` by rename, so that a crash leaves the old file or the new one."""
        temporary = path.with_name(path.name + ".new")
        torch.save(
            {
                "step": self.step,
                "seconds": self.seconds,
                "num_examples": self.num_examples,
                "best": self.best,
                "method": self.method.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            },
            temporary,
        )
        temporary.replace(path)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what `read_checkpoint` returned."""
        self.method.load_state_dict(saved["method"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.num_examples, self.best = saved["num_examples"], saved["best"]


Report = Callable[[TrainState, Mapping[str, float]], None]


def ignore(state: TrainState, metrics: Mapping[str, float]) -> None:
    """The report of a training that nobody watches."""


def never() -> bool:
    return False


def read_checkpoint(path: Path, *, world: World) -> Mapping[str, Any] | None:
    """The saved state as rank 0 finds it, given to all ranks; None without a file."""
    saved = None
    if world.rank == 0 and path.exists():
        saved = torch.load(path, map_location="cpu", weights_only=True)
    if world.size > 1:
        box = [saved]
        dist.broadcast_object_list(box, src=0)
        saved = box[0]
    return saved


def initial_state(
    recipe: Recipe, images: Images, *, device: torch.device | str = "cpu"
) -> TrainState:
    """Freshly initialised modules; the same for equal recipes, whatever `device`."""
    chosen = METHODS[recipe.method_name]
    channels, size, _ = images.shape
    with global_seed(recipe.seed, "initialisation"):
        encoder = build_encoder(
            recipe.encoder, channels=channels, image_size=recipe.views.size or size
        )
        method = chosen(
            recipe.method,
            encoder,
            num_examples=len(images),
            num_classes=len(images.classes) if chosen.trains_on == "labels" else 0,
        )
    method.to(device)
    if recipe.channels_last:
        method.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(recipe.optim, method, batch_size=recipe.batch_size)
    num_steps = recipe.duration.to_steps(num_examples=len(images), batch_size=recipe.batch_size)
    return TrainState(method, optimizer, 0 if chosen.trains_on == "nothing" else num_steps)


def train(
    recipe: Recipe,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    report: Report = ignore,
    state: TrainState | None = None,
    validation: Images | None = None,
    interrupted: Callable[[], bool] = never,
    world: World = World(),
) -> TrainState:
    """Train the recipe's method on `images` (its pool or its labelled subset) to the end.

    report(state, metrics) is called every so many steps or seconds, at each evaluation step and
    after the last; metrics are means since the previous report. It may raise StopTrial.
    `state` goes on from there; `validation` is needed for early stopping.
    Raises FloatingPointError naming the step of the first loss that was not finite.
    """
    if state is None:
        state = initial_state(recipe, images, device=device)
    if recipe.batch_size % world.size:
        raise ValueError(
            f"batch_size={recipe.batch_size} is global and must be divisible by the "
            f"{world.size} workers; set it to a multiple of {world.size}."
        )
    method, optimizer, num_steps = state.method, state.optimizer, state.num_steps
    model = method if world.size == 1 else DistributedDataParallel(method)
    labels = images.labels.to(device) if method.trains_on == "labels" else None
    share = recipe.batch_size // world.size
    due_steps = set(evaluation_steps(recipe, num_steps)) | {num_steps}
    due_every = max(1, num_steps // REPORTS)
    looks = recipe.early_stopping if validation is not None else None
    means = _RunningMeans(device)
    method.train()
    with global_seed(recipe.seed, "training"):
        while state.step < num_steps and not _out_of_patience(recipe, state):
            step = state.step
            progress = step / num_steps
            # Dropout and the like draw from the global generator: make it a function of the step.
            torch.manual_seed(derive_seed(recipe.seed, f"forward {world.rank}", step))
            set_lr(optimizer, lr_factor(recipe.optim, step, num_steps))
            positions = batch_indices(step, len(images), recipe.batch_size, recipe.seed)
            index = torch.from_numpy(positions[world.rank * share : (world.rank + 1) * share])
            batch = make_batch(
                recipe,
                images,
                index,
                labels,
                step=step,
                progress=progress,
                device=device,
                purpose=f"views {world.rank}",
            )
            with autocast(recipe, device):
                outputs = model(batch)
            outputs["loss"].backward()
            if recipe.optim.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(method.parameters(), recipe.optim.clip_norm)
            method.before_update(progress)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            method.after_update((step + 1) / num_steps)
            state.step = step + 1
            means.add(outputs, state.step)

            looked = looks is not None and state.step % looks.every == 0
            if looked:
                assert validation is not None
                _look(recipe, state, validation, device=device, world=world)
            due = state.step % due_every == 0 or state.step in due_steps
            ending = interrupted() or (looked and _out_of_patience(recipe, state))
            if due or ending or means.seconds() > REPORT_SECONDS:
                seconds = means.seconds()
                metrics = means.take()
                num_examples = means.num_steps * recipe.batch_size
                state.seconds += seconds
                state.num_examples += num_examples
                metrics["images_per_second"] = num_examples / seconds
                metrics["lr"] = optimizer.param_groups[0]["lr"]
                metrics["progress"] = state.step / num_steps
                if looked and state.best is not None:
                    metrics["val/loss"] = state.best["last_loss"]
                report(state, metrics)
                means.start()
        if state.best is not None:
            method.load_state_dict(state.best["method"])
    return state


def make_batch(
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
    """Read, augment and normalise the images at `index`; random only in (seed, purpose, step)."""
    pixels = images.read(index).to(device, non_blocking=True)  # uint8 [B, C, S, S]
    randomness = generator(recipe.seed, purpose, step, device=device)
    with torch.no_grad():
        views = make_views(pixels, recipe.views, randomness)
        if recipe.channels_last:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
    index = index.to(device)
    return Batch(views, index, None if labels is None else labels[index], progress, randomness)


def evaluation_steps(recipe: Recipe, num_steps: int) -> list[int]:
    """After which updates the recipe asks for an evaluation, the end not included."""
    n = recipe.num_evaluations
    return sorted({round(num_steps * i / n) for i in range(1, n)} - {0, num_steps})


@contextmanager
def autocast(recipe: Recipe, device: torch.device | str) -> Iterator[None]:
    """bfloat16 autocast where the recipe asks for it."""
    kind = torch.device(device).type
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        yield


class _RunningMeans:
    """Means of the logged scalars since the last report, kept on the device until one is due."""

    def __init__(self, device: torch.device | str):
        self.first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self.start()

    def start(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.num_steps = 0
        self.started = time.perf_counter()

    def seconds(self) -> float:
        return max(time.perf_counter() - self.started, 1e-9)

    def add(self, outputs: Mapping[str, Tensor], step: int) -> None:
        self.num_steps += 1
        for name, value in outputs.items():
            value = value.detach().float()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        bad = ~torch.isfinite(outputs["loss"].detach()) & (self.first_bad == 0)
        self.first_bad = torch.where(bad, step, self.first_bad)

    def take(self) -> dict[str, float]:
        first_bad = int(self.first_bad)
        if first_bad:
            raise FloatingPointError(
                f"The loss was not finite in update {first_bad}; lower optim.lr, raise "
                "method.temperature, or set optim.clip_norm=1."
            )
        return {f"train/{name}": float(s) / self.num_steps for name, s in self.sums.items()}


@torch.no_grad()
def validation_loss(
    recipe: Recipe,
    method: Method,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    world: World = World(),
) -> float:
    """The method's loss on `images` in evaluation mode, with the same views at every look."""
    labels = images.labels.to(device) if method.trains_on == "labels" else None
    batch_size = max(1, min(recipe.batch_size, len(images)) // world.size)
    mine = torch.arange(world.rank, len(images) // world.size * world.size, world.size)
    total = torch.zeros((), device=device)
    count = 0
    was_training = method.training
    method.eval()
    for number, index in enumerate(mine.split(batch_size)):
        if len(index) < 2 and number:  # one leftover image cannot be contrasted with anything
            continue
        batch = make_batch(
            recipe,
            images,
            index,
            labels,
            step=number,
            progress=1.0,
            device=device,
            purpose="validation",
        )
        if labels is not None:  # a supervised loss needs no augmentation
            view = eval_view(images.read(index).to(device), recipe.views)
            batch = Batch([view], batch.index, batch.labels, 1.0, batch.generator)
        with autocast(recipe, device):
            total += method(batch)["loss"].float() * len(index)
        count += len(index)
    method.train(was_training)
    mean = total / count
    if world.size > 1:
        dist.all_reduce(mean)
        mean /= world.size
    return float(mean)


def _look(
    recipe: Recipe,
    state: TrainState,
    validation: Images,
    *,
    device: torch.device | str,
    world: World,
) -> None:
    """Compare the validation loss with the best so far and keep the better weights."""
    loss = validation_loss(recipe, state.method, validation, device=device, world=world)
    if state.best is None or loss < state.best["loss"]:
        weights = {k: v.detach().clone() for k, v in state.method.state_dict().items()}
        state.best = {"loss": loss, "step": state.step, "looks_since": 0, "method": weights}
    else:
        state.best["looks_since"] += 1
    state.best["last_loss"] = loss


def _out_of_patience(recipe: Recipe, state: TrainState) -> bool:
    if recipe.early_stopping is None or state.best is None:
        return False
    return bool(state.best["looks_since"] >= recipe.early_stopping.patience)
