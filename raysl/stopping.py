"""Early stopping: look at the loss on the validation images, keep the best weights."""

import dataclasses

import torch
import torch.distributed as dist

from raysl.data.images import Images
from raysl.feed import autocast, make_batch
from raysl.methods import Method
from raysl.recipe import Recipe
from raysl.state import ALONE, TrainState, World
from raysl.views import eval_view


@torch.no_grad()
def validation_loss(
    recipe: Recipe,
    method: Method,
    images: Images,
    *,
    device: torch.device | str = "cpu",
    world: World = ALONE,
) -> float:
    """The method's loss on `images` in evaluation mode, with the same views at every look."""
    labels = images.labels.to(device) if method.uses_labels() else None
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
            batch = dataclasses.replace(batch, views=[view])
        with autocast(recipe, device):
            total += method(batch)["loss"].float() * len(index)
        count += len(index)
    method.train(was_training)
    mean = total / count
    if world.size > 1:
        dist.all_reduce(mean)
        mean /= world.size
    return float(mean)


def look(
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


def out_of_patience(recipe: Recipe, state: TrainState) -> bool:
    """True once the loss has not fallen for as many looks as the recipe waits."""
    if recipe.early_stopping is None or state.best is None:
        return False
    return bool(state.best["looks_since"] >= recipe.early_stopping.patience)
