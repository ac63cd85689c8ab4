"""The commit that a number is said to come from."""

import subprocess
from pathlib import Path

import pytest

from raysl.provenance import commit


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    command = ["git", "-C", str(folder), *author, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A package, a file of results and another file, in one commit."""
    for name in ("package/__init__.py", "benchmarks/results/speed.jsonl", "README.md"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "all")
    yield tmp_path
    commit.cache_clear()


def test_a_clean_checkout_is_named_by_its_commit(checkout):
    assert commit(checkout / "package") == git(checkout, "rev-parse", "--short=12", "HEAD")


@pytest.mark.parametrize("changed", ["package/__init__.py", "README.md"])
def test_a_changed_file_makes_it_dirty(checkout, changed):
    (checkout / changed).write_text("changed")
    name = git(checkout, "rev-parse", "--short=12", "HEAD")
    assert commit(checkout / "package") == f"{name}-dirty"


def test_results_of_benchmarks_do_not_make_it_dirty(checkout):
    (checkout / "benchmarks" / "results" / "speed.jsonl").write_text("a line")
    assert commit(checkout / "package") == git(checkout, "rev-parse", "--short=12", "HEAD")


def test_outside_of_a_checkout_there_is_none(checkout):
    installed = checkout / "site-packages" / "package"  # ignored or not, git does not track it
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert commit(installed) is None
