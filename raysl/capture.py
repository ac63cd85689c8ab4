"""Views, forward and backward of an update as one CUDA graph.

An update of a small encoder is a few hundred kernels of microseconds each: started one by one they
keep the processor busy and the GPU waiting. A graph starts them all at once. It repeats exactly
what was recorded, so only methods that do the same in every update of a phase can have one
(`Method.capturable`); random numbers still follow from (seed, purpose, step).
"""

import functools
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.compiled import Forward
from raysl.data.images import send
from raysl.feed import METHOD, VIEWS, autocast, views_of
from raysl.logged import Logged, logged
from raysl.methods import Batch, Method
from raysl.recipe import Recipe
from raysl.rng import derive_seed
from raysl.state import World

# Models of timm that copy from the host in every forward pass, which a graph cannot.
COPYING = ("csatv2", "edgenext", "samvit")
# Of each phase, made without a graph: libraries allocate and choose in the first ones.
WARMUP_UPDATES = 3


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

    The first updates of a phase run as they are, then one is recorded, and from there on it is
    replayed on the same memory: what `run` returns, and the gradients, last until the next call.
    """

    def __init__(
        self,
        recipe: Recipe,
        method: Method,
        forward: Forward,
        *,
        shape: tuple[int, int, int],
        labels: Tensor | None,
        device: torch.device | str,
    ):
        """forward: the method's. shape: of the stored images, (C, S, S). labels: of all of them, on
        the device.
        """
        self.recipe = recipe
        self.method = method
        self.forward = forward
        self.device = torch.device(device)
        self.labels = labels
        size = recipe.batch_size
        self.pixels = torch.empty((size, *shape), dtype=torch.uint8, device=device)
        self.index = torch.empty(size, dtype=torch.int64, device=device)
        self.generators = {
            purpose: torch.Generator(self.device) for purpose in (f"{VIEWS} 0", METHOD)
        }
        self.stream = _stream(self.device)
        self.phase: Hashable = None
        self.num_updates = 0  # of the phase
        self.graph: torch.cuda.CUDAGraph | None = None
        self.outputs: Logged | None = None
        self.gradients: list[tuple[torch.nn.Parameter, Tensor]] = []

    def run(self, pixels: Tensor, index: Tensor, *, step: int, progress: float) -> Logged:
        """What the method logs of the stored images uint8 [B, C, S, S] at `index` [B]."""
        phase = self.method.phase(progress)
        if phase != self.phase:
            self.phase, self.num_updates = phase, 0
            self.graph, self.outputs, self.gradients = None, None, []
        self.pixels.copy_(send(pixels, self.device))
        self.index.copy_(send(index, self.device))
        for purpose, generator in self.generators.items():
            generator.manual_seed(derive_seed(self.recipe.seed, purpose, step))
        self.num_updates += 1
        if self.num_updates <= WARMUP_UPDATES:
            with self._beside():
                return self._forward_and_backward(progress)
        if self.graph is None:
            self._record(progress)
        assert self.graph is not None
        assert self.outputs is not None
        self.graph.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.outputs

    def _forward_and_backward(self, progress: float) -> Logged:
        views, own = self.generators.values()
        batch = Batch(
            views_of(self.recipe, self.pixels, views),
            self.index,
            None if self.labels is None else self.labels[self.index],
            progress,
            own,
        )
        with autocast(self.recipe, self.device):
            outputs = self.forward(batch)
        outputs["loss"].backward()
        return logged(outputs)

    def _record(self, progress: float) -> None:
        self.graph = torch.cuda.CUDAGraph()
        for generator in self.generators.values():
            self.graph.register_generator_state(generator)
        with (
            torch.cuda.device(self.device),
            torch.cuda.graph(self.graph, stream=self.stream, capture_error_mode="thread_local"),
        ):
            self.outputs = self._forward_and_backward(progress)
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
