"""Real Ray processes under a test: finding, killing and starting them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from raysl.cluster.session import remove, short_temporary_folder, write_token

RAY = str(Path(sys.executable).parent / "ray")


def descendants(pid: int) -> dict[int, str]:
    """{pid: command line} of every process below `pid`."""
    children: dict[int, list[int]] = {}
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
                children.setdefault(parent, []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = commands[child]
            waiting.append(child)
    return found


def worker_pids() -> set[int]:
    """The processes of a group's workers below this test."""
    found = descendants(os.getpid())
    return {pid for pid, command in found.items() if command.startswith("ray::RayTrainWorker")}


def kill_one(name: str) -> None:
    """kill -9 one of the Ray processes below this test whose title starts with `name`."""
    found = [pid for pid, command in descendants(os.getpid()).items() if command.startswith(name)]
    os.kill(found[0], signal.SIGKILL)


def leftovers(*, patience: float = 15.0) -> list[str]:
    """What still runs below this test once Ray had `patience` seconds to go."""
    deadline = time.monotonic() + patience
    while found := [c for c in descendants(os.getpid()).values() if "ray" in c]:
        if time.monotonic() > deadline:
            return found
        time.sleep(0.2)
    return []


def listening(pids: list[int]) -> list[str]:
    """The addresses on which these processes accept TCP connections."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    addresses = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                last_word = columns[1].split(":")[0][-8:]  # of IPv4-mapped addresses too
                addresses.append(".".join(str(b) for b in bytes.fromhex(last_word)[::-1]))
    return addresses


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[str, Path]]:
    """A head and a second node of one CPU each, apart from this process: (address, token file)."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="two", dir=short_temporary_folder()))
        stack.callback(remove, folder)
        token = write_token(folder / "token")
        environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        address = f"127.0.0.1:{free_port()}"
        head = ["--head", f"--port={address.split(':')[1]}", f"--dashboard-port={free_port()}"]
        for number, options in enumerate((head, [f"--address={address}"])):
            command = [
                RAY, "start", "--block", "--num-cpus=1", f"--temp-dir={folder}/{number}",
                "--object-store-memory=80000000", "--disable-usage-stats", *options,
            ]  # fmt: skip
            log = stack.enter_context((folder / f"{number}.log").open("w"))
            node = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(end, node)
            wait_for_cpus(address, number + 1, environment)
        yield address, token


def wait_for_cpus(address: str, num_cpus: int, environment: dict[str, str]) -> None:
    """Until the cluster has that many CPUs; a minute at most."""
    deadline = time.monotonic() + 60
    command = [RAY, "status", "--address", address]
    while True:
        status = subprocess.run(command, env=environment, capture_output=True, text=True)
        if f"/{num_cpus}.0 CPU" in status.stdout:
            return
        assert time.monotonic() < deadline, status.stdout + status.stderr
        time.sleep(0.5)


def end(node: subprocess.Popen) -> None:
    """Stop one node: its own process group, and nothing else."""
    for number in (signal.SIGTERM, signal.SIGKILL):  # its agents survive the first for a while
        with contextlib.suppress(ProcessLookupError):
            os.killpg(node.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            node.wait(timeout=15)
