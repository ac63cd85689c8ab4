"""What travels between the driver and the processes of a trial: plain values only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysl.study.spec import Proposal, Resources


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trial to run: its recipe, its data's source, and where it writes.

    directory: absolute; with several machines on a file system that all of them share.
    storage: where Ray Train keeps its own bookkeeping, a temporary folder.
    """

    recipe: Mapping[str, Any]
    source: str
    directory: str
    final: bool
    resources: Resources
    storage: str

    @classmethod
    def create(cls, proposal: Proposal, *, source: str, directory: Path, **fields: Any) -> "Task":
        """The task of a proposal; a path in `source` is made absolute, since processes differ."""
        if Path(source).exists():
            source = os.path.abspath(source)
        return cls(
            recipe=proposal.recipe.to_dict(),
            source=source,
            directory=str(directory),
            final=proposal.final,
            **fields,
        )

    @property
    def device(self) -> str:
        return "cuda" if self.resources.gpus_per_worker > 0 else "cpu"


@dataclass(frozen=True)
class News:
    """What a running trial reported since it was last asked; step 0 before its first report."""

    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)

    def then(self, later: "News") -> "News":
        """Both in one, so that a quick report does not hide an evaluation before it."""
        return News(later.step, {**self.metrics, **later.metrics})

    def told(self) -> "News":
        """What is left once somebody was told."""
        return News(self.step)
