"""Workers that share collectives, forked from a process that has imported what takes seconds."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def work_together(function: Callable[[], Any], num_workers: int, folder: Path) -> list[Any]:
    """What the function, one that can be imported, returns on each of so many workers."""
    with mp.Manager() as manager:
        results = manager.dict()
        arguments = (function, num_workers, folder / "rendezvous", results)
        mp.start_processes(_worker, arguments, num_workers, start_method="forkserver")
        return [results[rank] for rank in range(num_workers)]


def _worker(
    rank: int, function: Callable[[], Any], num_workers: int, path: Path, results: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{path}",
        rank=rank,
        world_size=num_workers,
        timeout=datetime.timedelta(seconds=60),
    )
    results[rank] = function()
    dist.destroy_process_group()
