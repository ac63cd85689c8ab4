"""What travels between the driver and the processes of a trial: plain values only.

Imports nothing large, since each of Ray Train's processes unpickles it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Task:
    """One trial to run: its recipe, its data's source, where it writes and what it gets.

    directory: absolute; with several machines on a file system that all of them share.
    storage: where Ray Train keeps its own bookkeeping, a temporary folder.
    """

    recipe: Mapping[str, Any]
    source: str
    directory: str
    final: bool
    storage: str
    workers: int
    cpus_per_worker: int
    gpus_per_worker: float

    @property
    def device(self) -> str:
        return "cuda" if self.gpus_per_worker > 0 else "cpu"
