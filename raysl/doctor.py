"""`raysl doctor`: is this machine ready, and if not, which command mends it."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from raysl.cpus import usable_cpus

REQUIRED = ("torch", "torchvision", "timm", "ray", "mlflow", "optuna", "pyarrow", "numpy", "scipy")
LEAST_FREE_GIB = 2.0
MEND_INSTALL = "pip install -c constraints.txt -e ."


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, what was found, and the command that mends it if wrong."""

    name: str
    found: str
    mend: str | None = None

    @property
    def ok(self) -> bool:
        return self.mend is None


def examine(runs: Path) -> list[Check]:
    """All checks; nothing is changed on the machine."""
    return [
        _python(),
        *[_package(name) for name in REQUIRED],
        _torchvision(),
        _device(),
        _threads(),
        _memory(),
        _disk(runs),
        _writable(runs),
        _loopback(),
    ]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    mend = None if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    return Check("python", version, mend)


def _package(name: str) -> Check:
    try:
        return Check(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "not installed", MEND_INSTALL)


def _torchvision() -> Check:
    # In a process of its own: a broken pair of wheels raises at import, and importing takes long.
    code = "import torch, torchvision; torchvision.ops.nms; print('imports')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return Check("torch with torchvision", "work together")
    last = (run.stderr.strip().splitlines() or ["no message"])[-1]
    return Check(
        "torch with torchvision",
        last,
        "pip install --force-reinstall -c constraints.txt torch torchvision",
    )


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("GPUs", ", ".join(names))
    if shutil.which("nvidia-smi"):
        return Check(
            "GPUs",
            "nvidia-smi is here, but torch sees no GPU",
            "update the NVIDIA driver, or install the torch build for its CUDA version",
        )
    return Check("GPUs", "none: studies run on the CPU, use small encoders")


def _threads() -> Check:
    cores = usable_cpus()
    forced = {n: os.environ[n] for n in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if n in os.environ}
    if any(value.isdigit() and int(value) > cores for value in forced.values()):
        names = " ".join(forced)
        return Check("threads", f"{cores} cores, but {forced}", f"unset {names}")
    return Check("threads", f"{cores} cores")


def _memory() -> Check:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    mend = None if pages >= 3 else "use a machine with at least 3 GiB, or run with --local"
    return Check("memory", f"{pages:.1f} GiB", mend)


def _disk(runs: Path) -> Check:
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    mend = None if free >= LEAST_FREE_GIB else f"free some space on {place}, or use --runs"
    return Check("disk", f"{free:.1f} GiB free at {place}", mend)


def _writable(runs: Path) -> Check:
    place = runs.resolve()
    while not place.exists():
        place = place.parent
    if place.is_dir() and os.access(place, os.W_OK):
        return Check("run folder", f"{runs} can be written")
    return Check("run folder", f"{runs} cannot be written", "choose another with --runs")


def _loopback() -> Check:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", 0))
        except OSError as error:
            return Check("loopback", str(error), "let processes listen on 127.0.0.1 (Ray needs it)")
    return Check("loopback", "127.0.0.1 can be listened on")
