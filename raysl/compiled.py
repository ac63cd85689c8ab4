"""Encoders through torch.compile, which joins what lies between matrix products and convolutions.

Only the updates of a training run compiled: evaluations have batches of other sizes, each of which
would be compiled anew.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from raysl.encoder import Encoder
from raysl.methods import Batch
from raysl.recipe import Recipe

MOST_VARIANTS = 64  # of one block in a process: sizes, batches, student and teacher, methods
# The languages of its kernels; the environment's variable and the programs that it looks for.
COMPILERS = {"cpu": ("C++", ("CXX", "g++")), "cuda": ("C", ("CC", "gcc", "clang"))}

Forward = Callable[[Batch], dict[str, Tensor]]


def forward_of(recipe: Recipe, model: nn.Module) -> Forward:
    """The forward pass of a method, or of one in DDP, compiled where the recipe asks for it."""
    if not recipe.compile:
        return model
    require_compiler(next(model.parameters()).device.type)
    torch._dynamo.config.recompile_limit = MOST_VARIANTS
    compiled = {
        part: torch.compile(part.forward, dynamic=False) for part in parts_to_compile(model)
    }

    def forward(batch: Batch) -> dict[str, Tensor]:
        with replaced(compiled):
            outputs: dict[str, Tensor] = model(batch)
        return outputs

    return forward


def parts_to_compile(model: nn.Module) -> list[nn.Module]:
    """Each block of ViTs, which are alike and so are compiled once; other encoders as a whole.

    Where a method takes the maps of a convnet for a decoder (`Encoder.maps`), nothing is compiled.
    """
    blocks: list[nn.Module] = [module for module in model.modules() if isinstance(module, Block)]
    return blocks + [
        module
        for module in model.modules()
        if isinstance(module, Encoder) and not any(map(_waits_or_has_blocks, module.modules()))
    ]


def _waits_or_has_blocks(module: nn.Module) -> bool:
    """Synchronised batch norm waits for the other workers in the middle of an encoder."""
    return isinstance(module, Block | nn.SyncBatchNorm)


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Within it these modules have these forward passes."""
    for module, forward in forwards.items():
        module.__dict__["forward"] = forward  # the instance's goes before its class's
    try:
        yield
    finally:
        for module in forwards:
            del module.__dict__["forward"]


def require_compiler(device: str) -> None:
    """A sentence where torch.compile would not find the compiler that it needs on "cpu" or "cuda".

    Its kernels are C++ on a processor; on a GPU they are Triton's, which start from C.
    """
    language, found = COMPILERS["cuda" if device == "cuda" else "cpu"]
    variable, *names = found
    if not any(map(shutil.which, (os.environ.get(variable, names[0]), *names))):
        raise ValueError(
            f"compile=true needs a {language} compiler on every machine that trains; install "
            f"{' or '.join(names)}, or set compile=false."
        )
