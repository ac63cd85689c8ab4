"""The training loop: one function for every method, on one device or as one DDP worker."""

from collections.abc import Callable, Mapping

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from raysl.capture import CapturedStep, can_capture
from raysl.compiled import forward_of
from raysl.data.images import Images
from raysl.data.prefetch import reading_ahead
from raysl.data.subset import batch_indices
from raysl.feed import VIEWS, autocast, make_batch
from raysl.logged import RunningMeans, logged
from raysl.methods import Method
from raysl.optim import set_step
from raysl.precision import fast_products
from raysl.recipe import Recipe
from raysl.rng import derive_seed, global_seed, seed_default_generators
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
    forward = forward_of(recipe, method if world.size == 1 else distributed(method, device))
    labels = images.labels.to(device) if method.uses_labels() else None
    share = recipe.batch_size // world.size
    due_steps = shared_steps(recipe, num_steps)
    looks = recipe.early_stopping if validation is not None else None
    means = RunningMeans(state.step)
    captured = None
    if can_capture(method, device, world):
        captured = CapturedStep(
            recipe, method, forward, shape=images.shape, labels=labels, device=device
        )

    def index_of(step: int) -> Tensor:
        """The positions of this worker's share of the batch, int64 [B / workers]."""
        positions = batch_indices(step, len(images), recipe.batch_size, recipe.seed)
        return torch.from_numpy(positions[world.rank * share : (world.rank + 1) * share])

    method.train()
    batches = map(index_of, range(state.step, num_steps))
    with (
        global_seed(recipe.seed, "training"),
        fast_products(device),
        reading_ahead(images, batches, device=device) as ready,
    ):
        while state.step < num_steps and not out_of_patience(recipe, state):
            step = state.step
            progress = step / num_steps
            # Dropout and the like draw from the global generator: make it a function of the step.
            seed = derive_seed(recipe.seed, f"forward {world.rank}", step)
            seed_default_generators(seed, device)
            set_step(optimizer, recipe.optim, step, num_steps)
            method.before_forward(step // max(1, len(images) // recipe.batch_size))
            index = index_of(step)
            if captured is not None:
                update = captured.run(ready.read(index), index, step=step, progress=progress)
            else:
                batch = make_batch(
                    recipe,
                    ready,
                    index,
                    labels,
                    step=step,
                    progress=progress,
                    device=device,
                    purpose=f"{VIEWS} {world.rank}",
                )
                with autocast(recipe, device):
                    outputs = forward(batch)
                outputs["loss"].backward()
                update = logged(outputs)
            if recipe.optim.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(method.parameters(), recipe.optim.clip_norm)
            method.before_update(progress)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            method.after_update((step + 1) / num_steps)
            state.step = step + 1
            means.add(update)

            looked = looks is not None and state.step % looks.every == 0
            if looked:
                assert validation is not None
                look(recipe, state, validation, device=device, world=world)
            due = state.step in due_steps
            ending = interrupted() or (looked and out_of_patience(recipe, state))
            if due or ending or means.seconds() > REPORT_SECONDS:
                metrics = means.take()  # waits until a GPU has made these updates
                seconds = means.seconds()
                state.metrics = update.metrics
                num_examples = means.num_steps * recipe.batch_size
                state.seconds += seconds
                state.num_examples += num_examples
                metrics["images_per_second"] = num_examples / seconds
                metrics["lr"] = optimizer.param_groups[0]["lr"]
                metrics["progress"] = state.step / num_steps
                if looked and state.best is not None:
                    metrics["val/loss"] = state.best["last_loss"]
                report(state, metrics)
                means.start(state.step)
        if state.best is not None:
            method.load_state_dict(state.best["method"])
    return state


def distributed(method: Method, device: torch.device | str) -> DistributedDataParallel:
    """The method as one of several workers; batch norm sees the joined batch where it can (CUDA).

    Banks, queues and centres agree on all workers by construction, so only batch statistics are
    sent from worker 0 before each step.
    """
    if torch.device(device).type == "cuda":
        convert_sync_batchnorm(method)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    own = [name for name, _ in method.named_buffers() if not name.endswith(statistics)]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(method, own)
    return DistributedDataParallel(method)


def evaluation_steps(recipe: Recipe, num_steps: int) -> list[int]:
    """After which updates the recipe asks for an evaluation, the end not included."""
    n = recipe.num_evaluations
    return sorted({round(num_steps * i / n) for i in range(1, n)} - {0, num_steps})


def shared_steps(recipe: Recipe, num_steps: int) -> frozenset[int]:
    """After which updates a report is due on every worker, whatever the clock says."""
    every = range(0, num_steps, max(1, num_steps // REPORTS))
    return frozenset({*every, *evaluation_steps(recipe, num_steps), num_steps} - {0})
