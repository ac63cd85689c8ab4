"""Small methods, batches and steps for the tests of methods."""

import torch
from method_cases import CASES

from raysl.encoder import Encoder, EncoderConfig, build_encoder
from raysl.methods import METHODS, Batch, Method
from raysl.rng import generator
from raysl.views import ViewConfig
from raysl.views.config import local_size

SIZE = 16  # pixels
NUM_EXAMPLES = 16
NUM_CLASSES = 4
NUM_STEPS = 100


def encoder_for(name: str, config: EncoderConfig | None = None, *, channels: int = 3) -> Encoder:
    config = config or CASES[name].encoders[0]
    return build_encoder(config, channels=channels, image_size=SIZE)


def build(
    name: str, *, encoder: EncoderConfig | None = None, channels: int = 3, **fields
) -> Method:
    """The method with its case's small config and these fields; equal calls give equal weights."""
    torch.manual_seed(0)
    method = METHODS[name]
    return method(
        method.Config(**{**CASES[name].config, **fields}),
        encoder_for(name, encoder, channels=channels),
        num_examples=NUM_EXAMPLES,
        num_classes=NUM_CLASSES if method.uses_labels() else 0,
        batch_size=8,
        num_steps=NUM_STEPS,
    )


def batch_of(
    name: str,
    size: int,
    *,
    channels: int = 3,
    seed: int = 0,
    progress: float = 0.0,
    views: ViewConfig | None = None,
) -> Batch:
    """A batch of noise images 0 to size - 1; equal calls give equal batches."""
    views = views or METHODS[name].views
    draw = torch.Generator().manual_seed(seed)
    sizes = [SIZE] * views.num_views + [local_size(views, SIZE)] * views.num_local_views
    images = [torch.randn(size, channels, s, s, generator=draw) for s in sizes]
    labels = torch.arange(size) % NUM_CLASSES if METHODS[name].uses_labels() else None
    return Batch(images, torch.arange(size), labels, progress, generator(0, "test"))


def trajectory(
    method: Method, name: str, num_steps: int, *, rate: float = 1e-2, progress: float | None = None
) -> tuple[list[float], float]:
    """The losses of so many steps on the same images, an epoch each, and what is evaluated then.

    `progress`: of all steps; None: from 0 to 1.
    """
    if METHODS[name].trains_on == "nothing":
        return [], 0.0
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=rate)
    losses = []
    for step in range(num_steps):
        now = step / num_steps if progress is None else progress
        method.before_forward(step)
        loss = method(batch_of(name, NUM_EXAMPLES, progress=now))["loss"]
        optimizer.zero_grad()
        loss.backward()
        method.before_update(now)
        optimizer.step()
        method.after_update((step + 1) / num_steps if progress is None else progress)
        losses.append(loss.item())
    evaluated = sum(float(p.detach().double().sum()) for p in method.evaluated.parameters())
    return losses, evaluated
