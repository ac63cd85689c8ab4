"""Starting, joining and leaving Ray: quiet, authenticated, on this machine's own interface."""

import contextlib
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray._private.ray_constants
import ray._private.ray_logging
from ray import _raylet

from raysl.cpus import usable_cpus
from raysl.memory import ONE_ARENA

LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 128 * 2**20  # only recipes and results pass through it; Ray's least is 75 MiB
SETTINGS = {
    **ONE_ARENA,  # Ray's processes inherit it
    # Where a stop signal goes to the whole process group (systemd, Slurm), Ray's own processes end
    # at once, and the driver is ended by Ray this long after; trials go on from their checkpoints.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns of a default to come
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # raysl resumes from its own files
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}


@contextlib.contextmanager
def session(
    *,
    address: str | None,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    token_path: Path | None = None,
    groups: bool = False,
) -> Iterator[Path]:
    """Ray for the length of the block; yields a private folder that is removed at its end.

    groups: trials will be Ray Train groups. Their clean-up after a kill asks the State API,
        which lives in the dashboard: without it a killed group keeps its CPUs for ever.
    """
    if ray.is_initialized():
        raise ValueError("This process is connected to Ray already; call ray.shutdown() first.")
    remove_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"raysl-{os.getpid()}-", dir=short_temporary_folder()))
    with contextlib.ExitStack() as stack:
        stack.callback(remove, folder)
        stack.enter_context(signal_handlers_kept())
        stack.enter_context(environment(SETTINGS))
        stack.enter_context(silence("ray.tune", "ray.train", "ray._private.authentication"))
        if address is None:
            stack.enter_context(loopback_only())
            token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "token")}
            write_token(folder / "token")
        else:
            token = authentication(token_path)
        stack.callback(_refresh_authentication)  # once the variables are what they were before
        stack.enter_context(environment(token))
        stack.callback(ray.shutdown)
        _refresh_authentication()
        if address is None:
            _start(folder, num_cpus=num_cpus, num_gpus=num_gpus, groups=groups)
        else:
            _join(address)
        yield folder


def _start(folder: Path, *, num_cpus: int | None, num_gpus: int | None, groups: bool) -> None:
    ray.init(
        address="local",
        num_cpus=usable_cpus() if num_cpus is None else num_cpus,
        num_gpus=num_gpus,
        include_dashboard=groups,
        dashboard_host=LOOPBACK,
        object_store_memory=OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address=LOOPBACK,
        _temp_dir=str(folder / "ray"),
    )
    assert ray.util.get_node_ip_address() == LOOPBACK, "Ray listens to the network"


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise ValueError(
            f"The address of a cluster reads HOST:PORT, such as 127.0.0.1:6379 on its head node, "
            f"not {address!r}."  # "auto" may find another user's, ray:// cannot run a study
        )
    try:  # Ray itself would try for five minutes
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ValueError(
            f"No Ray cluster answers at {address}; check the address, or leave it out to run on "
            "this machine."
        ) from error
    set_token = "set RAY_AUTH_TOKEN_PATH to the token file that the cluster was started with."
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": ONE_ARENA},
            log_to_driver=False,
            logging_level="ERROR",
        )
    except ray.exceptions.AuthenticationError as error:
        raise ValueError(f"There is no token for the cluster at {address}; {set_token}") from error
    except ConnectionError as error:
        message = f"The cluster at {address} did not accept the token; {set_token}"
        raise ValueError(message) from error


def authentication(token_path: Path | None) -> dict[str, str]:
    """The variables with which a cluster is joined: always with a token, unless set otherwise."""
    variables = {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    if token_path is not None:
        if not token_path.exists():
            raise ValueError(f"There is no token file {token_path}; copy the cluster's there.")
        variables["RAY_AUTH_TOKEN_PATH"] = str(token_path)
    return variables


def write_token(path: Path) -> Path:
    """A new random token in a file that only this user can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
    return path


def remove_leftovers() -> None:
    """Remove this user's folders of sessions whose process was killed."""
    for folder in Path(short_temporary_folder()).glob("raysl-*-*"):
        pid = folder.name.split("-")[1]
        if not pid.isdigit():
            continue
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            os.kill(int(pid), 0)
        except FileNotFoundError:
            pass  # another session has just removed it
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except PermissionError:
            pass  # the number is somebody else's process by now


def remove(folder: Path, *, patience: float = 5.0) -> None:
    """Remove the folder, again while Ray's last processes still write their logs there."""
    deadline = time.monotonic() + patience
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            return  # the next session on this machine removes it
        time.sleep(0.05)


def short_temporary_folder() -> str:
    """/tmp where it exists: Ray's sockets lie below and may have 107 characters in all."""
    return "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These environment variables for the length of the block; then all are as they were."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def silence(*names: str) -> Iterator[None]:
    """Only CRITICAL from these loggers, and none of the raylet's lines, for the block's length.

    That a process died comes as a failed trial with its reason, not as a line on the console.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with attribute(ray._private.ray_logging.stdout_deduplicator, "skip_re", re.compile("")):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Let a Ray started in the block listen on 127.0.0.1 alone.

    Ray replaces a node address of 127.0.0.1 by the machine's own and then listens on every
    interface, except where it knows no clusters (Windows, macOS): so it is told of one of these.
    """
    with attribute(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextlib.contextmanager
def attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """This attribute for the length of the block; it must exist."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def signal_handlers_kept() -> Iterator[None]:
    """Put back the handlers that ray.init replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _refresh_authentication() -> None:
    """Read mode and token anew: Ray keeps both from the moment it was imported or last used."""
    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]
