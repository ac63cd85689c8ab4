"""A folder that appears whole or not at all."""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from raysl.data.store import MANIFEST


@contextmanager
def staged(destination: Path, *, overwrite: bool) -> Iterator[Path]:
    """A new folder that becomes `destination` when the block ends well, and else vanishes.

    An existing store is replaced only then, and only with `overwrite`. What a killed process left
    behind is removed by the next one with the same destination: a living one holds a lock.
    """
    _check(destination, overwrite=overwrite)
    parent = destination.parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    folder = parent / f"{_prefix(destination)}{uuid.uuid4().hex[:8]}"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(destination)
        folder.mkdir()
    except OSError as error:
        reason = error.strerror
        raise ValueError(
            f"{destination} cannot be made ({reason}); choose another place."
        ) from None
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
        _replace(destination, folder, overwrite=overwrite)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        for empty in made:
            with suppress(OSError):  # somebody else uses it by now
                empty.rmdir()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise ValueError(
                f"The disk of {destination} is full; free some space or choose another place."
            ) from None
        raise
    finally:
        os.close(lock)


def _check(destination: Path, *, overwrite: bool) -> None:
    if destination.is_dir() and not any(destination.iterdir()):
        return
    if destination.is_dir() and (destination / MANIFEST).is_file():
        if not overwrite:
            raise ValueError(
                f"{destination} is an image store already; choose another place, or replace it "
                "with --overwrite."
            )
    elif destination.exists():
        raise ValueError(
            f"{destination} exists and is no image store, so it will not be replaced; choose "
            "another place."
        )


def _replace(destination: Path, folder: Path, *, overwrite: bool) -> None:
    _check(destination, overwrite=overwrite)
    if not destination.exists() or not any(destination.iterdir()):
        folder.rename(destination)
        return
    old = folder.with_name(f"{folder.name}-old")
    destination.rename(old)
    try:
        folder.rename(destination)
    except BaseException:
        old.rename(destination)
        raise
    shutil.rmtree(old)


def _remove_abandoned(destination: Path) -> None:
    for folder in destination.parent.glob(f"{_prefix(destination)}????????"):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except BlockingIOError:
            pass  # its process is alive
        finally:
            os.close(descriptor)


def _prefix(destination: Path) -> str:
    return f".{destination.name}.importing-"
