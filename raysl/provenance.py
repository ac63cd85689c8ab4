"""Where a number comes from: versions, device, data and the commit of this checkout."""

import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision

import raysl
from raysl.data.images import Splits


def provenance(splits: Splits, *, device: torch.device | str) -> dict[str, Any]:
    """What a reader needs to know about where a number comes from."""
    kind = torch.device(device).type
    return {
        "commit": commit(),
        "raysl": raysl.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a class of its own, which only torch can unpickle
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if kind == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "data": splits.source,
        "data_digest": splits.digest,
        "pool_digest": splits.pool.digest,
        "train_digest": splits.train.digest,
        "val_digest": splits.val.digest,
        "test_digest": splits.test.digest,
    }


@lru_cache
def commit(package: Path = Path(raysl.__file__).parent) -> str | None:
    """The commit of the checkout that `package` lies in; None outside of one.

    "-dirty" follows if a tracked file was changed, results of benchmarks apart: the first line that
    one of them writes would make all later ones dirty.
    """
    git = ["git", "-C", str(package)]
    results = ":(top,exclude)benchmarks/results"
    commands = (
        [*git, "ls-files", "--error-unmatch", "__init__.py"],
        [*git, "describe", "--always", "--abbrev=12"],
        [*git, "status", "--porcelain", "--untracked-files=no", "--", ":/", results],
    )
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 10}
    try:
        _, name, changes = (subprocess.run(command, **options).stdout for command in commands)
    except (OSError, subprocess.SubprocessError):
        return None
    return name.strip() + ("-dirty" if changes else "")
