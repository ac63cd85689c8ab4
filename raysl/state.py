"""The state of a training: live modules and counters, saved and restored as one file."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from raysl.data.images import Images
from raysl.encoder import build_encoder
from raysl.methods import METHODS, Method
from raysl.optim import build_optimizer
from raysl.recipe import Recipe
from raysl.result import write_atomically
from raysl.rng import global_seed


@dataclass(frozen=True)
class World:
    """This worker's place among the workers of one trial."""

    rank: int = 0
    size: int = 1


ALONE = World()


@dataclass
class TrainState:
    """All that a resume needs: live modules and counters. Randomness needs no state.

    seconds, num_examples: spent on training so far, over restarts.
    best: with early stopping, loss, step and weights of the best look, and looks since then.
    metrics: the method's scalars of the last update that was reported, on this worker's share;
        means since the report before would depend on the clock.
    """

    method: Method
    optimizer: torch.optim.Optimizer
    num_steps: int
    step: int = 0
    seconds: float = 0.0
    num_examples: int = 0
    best: dict[str, Any] | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write to `path` by rename, so that a crash leaves the old file or the new one."""
        content = {
            "step": self.step,
            "seconds": self.seconds,
            "num_examples": self.num_examples,
            "best": self.best,
            "metrics": self.metrics,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_tensors(content, path)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Take over what `read_checkpoint` returned; ValueError if it is not of this recipe."""
        try:
            self.method.load_state_dict(saved["method"])
            self.optimizer.load_state_dict(saved["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                "The trial's checkpoint.pt is not of this recipe, or another version of raysl "
                "saved it; delete it to train the trial from its start."
            ) from error
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.num_examples, self.best = saved["num_examples"], saved["best"]
        self.metrics = saved.get("metrics", {})  # files of earlier versions have none


def save_tensors(content: Mapping[str, Any], path: Path) -> None:
    """torch.save, seen by readers and by a crash as the old file or the new one."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getbuffer())


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


def told_by_rank_0(value: bool, device: torch.device | str) -> bool:
    """Rank 0's value, on every rank; all must ask at the same point."""
    flag = torch.tensor([value], dtype=torch.int64, device=device)
    dist.broadcast(flag, src=0)
    return bool(flag)


def initial_state(
    recipe: Recipe, images: Images, *, device: torch.device | str = "cpu"
) -> TrainState:
    """Freshly initialised modules; the same for equal recipes, whatever `device`."""
    chosen = METHODS[recipe.method_name]
    channels, size, _ = images.shape
    num_steps = recipe.duration.to_steps(num_examples=len(images), batch_size=recipe.batch_size)
    with global_seed(recipe.seed, "initialisation"):
        encoder = build_encoder(
            recipe.encoder,
            channels=channels,
            image_size=recipe.views.size or size,
            mean=recipe.views.mean,
            std=recipe.views.std,
        )
        method = chosen(
            recipe.method,
            encoder,
            num_examples=len(images),
            num_classes=len(images.classes) if chosen.uses_labels() else 0,
            batch_size=recipe.batch_size,
            num_steps=num_steps,
        )
    method.to(device)
    if recipe.channels_last:
        method.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(recipe.optim, method, batch_size=recipe.batch_size)
    return TrainState(method, optimizer, 0 if chosen.trains_on == "nothing" else num_steps)
