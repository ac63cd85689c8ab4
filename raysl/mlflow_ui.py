"""MLflow's addresses, and its page as a process of its own; MLflow is not imported here."""

import contextlib
import difflib
import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from raysl.mlflow_views import study_links

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SCHEMES = (*DATABASES, "http", "https", "databricks")
PROBE_SECONDS = 2  # the least that PostgreSQL's client takes
START_SECONDS = 120.0  # a new database and 2 busy cores take about 15


def default_tracking_uri(runs: Path) -> str:
    """SQLite in the project's run folder: runs/mlflow.db, with artifacts in runs/mlflow-artifacts.

    The folder's path may not hold ? or #, which end the path in such an address.
    """
    path = runs.resolve() / "mlflow.db"
    if any(mark in str(path) for mark in "?#"):
        raise ValueError(
            f"The run folder {runs} has ? or # in its path, which MLflow cannot open; "
            "choose another with --runs."
        )
    return f"sqlite:///{path}"


def artifacts_directory(runs: Path) -> Path:
    """Where reports go when MLflow's database is opened directly; a server has its own place."""
    return runs.resolve() / "mlflow-artifacts"


def check_tracking_uri(uri: str) -> str:
    """The address as given, or a ValueError that says what is wrong with it."""
    scheme, separator, rest = uri.partition("://")
    if uri == "databricks":
        return uri
    if not separator:
        looks_like_host = ":" in uri and "/" not in uri.split(":")[0]
        meant = f"http://{uri}" if looks_like_host else f"sqlite:///{uri or 'runs'}/mlflow.db"
        raise ValueError(
            f"--tracking-uri {uri!r} is no address; MLflow needs a server or a database, "
            f"such as {meant}"
        )
    dialect = scheme.split("+")[0].lower()
    if dialect not in SCHEMES:
        near = difflib.get_close_matches(dialect, SCHEMES, n=1)
        hint = f"did you mean {near[0]}://{rest}?" if near else f"use one of {', '.join(SCHEMES)}."
        raise ValueError(f"--tracking-uri {uri!r} starts with the unknown {scheme}://; {hint}")
    if dialect == "sqlite" and not rest.startswith("/"):
        raise ValueError(
            f"--tracking-uri {uri!r} needs three slashes before the path: sqlite:///{rest}"
        )
    try:
        parts = urlsplit(uri)
        no_host = dialect.startswith("http") and not parts.hostname
        port = parts.port
    except ValueError as error:
        raise ValueError(f"--tracking-uri {uri!r} cannot be read: {error}.") from None
    if no_host or port == 0:
        raise ValueError(f"--tracking-uri {uri!r} names no server, such as http://127.0.0.1:5000")
    return uri


def is_database(tracking_uri: str) -> bool:
    """Whether the address is a database's, opened from here, and not a server's."""
    return tracking_uri.partition("://")[0].split("+")[0].lower() in DATABASES


def require_database(tracking_uri: str) -> None:
    """Raise soon where a database is away or locked; MLflow would try for 100 s, and wait 20 s.

    Raises what SQLAlchemy raises, and ValueError where the address needs another package. Without
    effect on a server's address.
    """
    import sqlalchemy

    if not is_database(tracking_uri):
        return
    try:
        url = sqlalchemy.make_url(tracking_uri)
        kind = url.get_backend_name()
        timeout = {"sqlite": "timeout"}.get(kind, "connect_timeout")
        engine = sqlalchemy.create_engine(
            url,
            poolclass=sqlalchemy.NullPool,
            connect_args={} if kind == "mssql" else {timeout: PROBE_SECONDS},
        )
    except (ModuleNotFoundError, sqlalchemy.exc.ArgumentError) as error:
        raise ValueError(
            f"--tracking-uri {shown(tracking_uri)} cannot be opened ({error}); install the "
            "database's Python package, or correct the address."
        ) from None
    if kind == "sqlite" and url.database:
        with contextlib.suppress(OSError):  # connecting says it better
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    with engine.connect() as connection:
        if kind == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.rollback()


def shown(uri: str) -> str:
    """The address without its password, for messages."""
    parts = urlsplit(uri)
    if not parts.password:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def ui_command(
    tracking_uri: str, artifacts: Path, *, host: str = "127.0.0.1", port: int = 5000
) -> list[str]:
    """MLflow's server over the database, with one worker: 2 processes, about 0.4 GB."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += [
        "--backend-store-uri",
        tracking_uri,
        "--artifacts-destination",
        artifacts.resolve().as_uri(),
    ]
    return [*command, "--host", host, "--port", str(port)]


def start_ui(
    tracking_uri: str, artifacts: Path, *, host: str = "127.0.0.1", port: int = 5000
) -> subprocess.Popen[bytes]:
    """The server as a process that answers, or a ValueError; end it with `stop_ui`.

    Its job runner and its usage reports are off.
    """
    if not is_database(tracking_uri):
        raise ValueError(f"{shown(tracking_uri)} is a server already: open it in a browser.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise ValueError(
                    f"{host} is no address of this machine ({error.strerror}); choose another with "
                    "--host, such as --host 127.0.0.1."
                ) from None
            raise ValueError(
                f"Port {port} on {host} cannot be opened ({error.strerror}); "
                f"choose another with --port, such as --port {port + 1}."
            ) from None
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ui_command(tracking_uri, artifacts, host=host, port=port),
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # so that stop_ui ends the server's worker with it
        )
        try:
            _wait_until_it_answers(process, host, port)
        except BaseException as error:
            stop_ui(process)
            if not isinstance(error, ChildProcessError | TimeoutError):
                raise
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise ValueError(
                f"MLflow's server over {shown(tracking_uri)} {error}: {lines[-1].strip()}"
            ) from None
    return process


def stop_ui(process: subprocess.Popen[bytes]) -> None:
    """End the server and its worker; without effect on one that has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)


def serve_ui(
    tracking_uri: str,
    artifacts: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 5000,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until Ctrl-C or SIGTERM; once the page answers, announce(line) tells where."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        process = start_ui(tracking_uri, artifacts, host=host, port=port)
        try:
            address = _address(host, port)
            announce(f"MLflow answers at {address} (Ctrl-C ends it)")
            with contextlib.suppress(
                urllib.error.HTTPError
            ):  # it may answer other hosts' names only
                for line in study_links(address):
                    announce(line)
            process.wait()
        except KeyboardInterrupt:
            return
        finally:
            stop_ui(process)
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait_until_it_answers(process: subprocess.Popen[bytes], host: str, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildProcessError("did not start")
        try:
            with urllib.request.urlopen(f"{_address(host, port)}/health", timeout=2):
                return
        except urllib.error.HTTPError:
            return  # it answers, though not to this name of the host
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"did not answer within {START_SECONDS:.0f} s")


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
