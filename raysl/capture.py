"""Views, forward and backward of an update as one CUDA graph.

An update of a small encoder is a few hundred kernels of microseconds each: started one by one they
keep the processor busy and the GPU waiting. A graph starts them all at once. It repeats exactly
what was recorded, so only methods that do the same in every update can have one
(`Method.capturable`); random numbers still follow from (seed, purpose, step).
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.data.images import send
from raysl.feed import METHOD, VIEWS, autocast, views_of
from raysl.methods import Batch, Method
from raysl.recipe import Recipe
from raysl.rng import derive_seed
from raysl.state import World

# Models of timm that copy from the host in every forward pass, which a graph cannot.
COPYING = ("csatv2", "edgenext", "samvit")
WARMUP_UPDATES = 3  # made without a graph: libraries allocate and choose in the first ones


def can_capture(method: Method, device: torch.device | str, world: World) -> bool:
    """Whether the updates of this training can be one graph: one worker on a GPU."""
    possible = method.capturable and not method.encoder.name.startswith(COPYING)
    return possible and torch.device(device).type == "cuda" and world.size == 1


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The one on which all graphs are recorded: CUDA's libraries keep memory for each."""
    return torch.cuda.Stream(device)


class CapturedStep:
    """Forward and backward of one update after another; gradients are in the parameters' `grad`.

    The first updates run as they are, then one is recorded, and from there on it is replayed on
    the same memory: what `run` returns, and the gradients, last until the next call.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: Method,
        *,
        shape: tuple[int, int, int],
        labels: Tensor | None,
        device: torch.device | str,
    ):
        """shape: of the stored images, (C, S, S). labels: of all of them, on the device."""
        self.recipe = recipe
        self.method = method
        self.device = torch.device(device)
        self.labels = labels
        size = recipe.batch_size
        self.pixels = torch.empty((size, *shape), dtype=torch.uint8, device=device)
        self.index = torch.empty(size, dtype=torch.int64, device=device)
        self.generators = {
            purpose: torch.Generator(self.device) for purpose in (f"{VIEWS} 0", METHOD)
        }
        self.stream = _stream(self.device)
        self.num_updates = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.outputs: dict[str, Tensor] = {}
        self.gradients: list[tuple[torch.nn.Parameter, Tensor]] = []

    def run(self, pixels: Tensor, index: Tensor, *, step: int) -> dict[str, Tensor]:
        """The method's outputs for the stored images uint8 [B, C, S, S] at `index` [B]."""
        self.pixels.copy_(send(pixels, self.device))
        self.index.copy_(send(index, self.device))
        for purpose, generator in self.generators.items():
            generator.manual_seed(derive_seed(self.recipe.seed, purpose, step))
        self.num_updates += 1
        if self.num_updates <= WARMUP_UPDATES:
            with self._beside():
                return self._forward_and_backward()
        if self.graph is None:
            self._record()
        assert self.graph is not None
        self.graph.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.outputs

    def _forward_and_backward(self) -> dict[str, Tensor]:
        views, own = self.generators.values()
        batch = Batch(
            views_of(self.recipe, self.pixels, views),
            self.index,
            None if self.labels is None else self.labels[self.index],
            0.0,  # what a capturable method does not read
            own,
        )
        with autocast(self.recipe, self.device):
            outputs = self.method(batch)
        outputs["loss"].backward()
        return {name: value.detach() for name, value in outputs.items()}

    def _record(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        for generator in self.generators.values():
            self.graph.register_generator_state(generator)
        with (
            torch.cuda.device(self.device),
            torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"),
        ):
            self.outputs = self._forward_and_backward()
        self.gradients = [
            (parameter, parameter.grad)
            for parameter in self.method.parameters()
            if parameter.grad is not None
        ]

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """The stream on which it will be recorded, as CUDA's libraries want it."""
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)
