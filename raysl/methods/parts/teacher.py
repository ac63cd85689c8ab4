"""A teacher: a copy that gets no gradient and follows its student as a moving average."""

import copy
from typing import TypeVar

import torch
from torch import nn

from raysl.optim import cosine

__all__ = ["cosine", "follow", "teacher_of"]


Copied = TypeVar("Copied", bound=nn.Module)


def teacher_of(student: Copied) -> Copied:
    """A copy without gradients."""
    return copy.deepcopy(student).requires_grad_(False)


MOMENTUM_RULE = "the paper's, or 1 - 10 / updates in trainings where that is less, at least 0.9"


def momentum_of(given: float | None, paper: float, num_steps: int) -> float:
    """The teacher's momentum (at first): as given, else the paper's, or less in a short training.

    The papers' teachers renew themselves hundreds of times. A training of a few hundred updates
    with their momentum ends before its teacher has left the random start; so here it is renewed 5
    to 10 times at least (a momentum that rises to 1 on a cosine halves the rate).
    """
    return max(0.9, min(paper, 1 - 10 / max(1, num_steps))) if given is None else given


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, of all parameters.

    Batch statistics are the teacher's own: it sees the batches too.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
