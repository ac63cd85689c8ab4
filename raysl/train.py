"""The training loop: one function for every method, on one device or as one DDP worker."""

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from raysl.data.images import Images
from raysl.data.subset import batch_indices
from raysl.feed import autocast, make_batch
from raysl.optim import lr_factor, set_lr
from raysl.recipe import Recipe
from raysl.rng import derive_seed, global_seed
from raysl.state import ALONE, TrainState, World, initial_state
from raysl.stopping import look, out_of_patience

REPORT_SECONDS = 2.0  # a report is due at least this often ...
REPORTS = 50  # ... and this often a training, whatever its length


Report = Callable[[TrainState, Mapping[str, float]], None]


def ignore(state: TrainState, metrics: Mapping[str, float]) -> None:
    """The report of a training that nobody watches."""


def never() -> bool:
    return False


def train(
    recipe: Recipe,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    report: Report = ignore,
    state: TrainState | None = None,
    validation: Images | None = None,
    interrupted: Callable[[], bool] = never,
    world: World = ALONE,
) -> TrainState:
    """Train the recipe's method on `images` (its pool or its labelled subset) to the end.

    report(state, metrics) is called every so many steps or seconds, at each evaluation step and
    after the last; metrics are means since the previous report. It may raise StopTrial.
    `state` goes on from there; `validation` is needed for early stopping.
    Raises FloatingPointError naming the step of the first loss that was not finite.
    """
    if state is None:
        state = initial_state(recipe, images, device=device)
    if state.num_steps and recipe.batch_size % world.size:
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
        while state.step < num_steps and not out_of_patience(recipe, state):
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
                look(recipe, state, validation, device=device, world=world)
            due = state.step % due_every == 0 or state.step in due_steps
            ending = interrupted() or (looked and out_of_patience(recipe, state))
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


def evaluation_steps(recipe: Recipe, num_steps: int) -> list[int]:
    """After which updates the recipe asks for an evaluation, the end not included."""
    n = recipe.num_evaluations
    return sorted({round(num_steps * i / n) for i in range(1, n)} - {0, num_steps})


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
