"""Memory that an update frees is there for the next one."""

import statistics
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # processes of their own start

PROGRAM = """
import resource, sys, torch
from raysl.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    before = faults()
    parts = [torch.ones(int(sys.argv[2]) * 2**18) for _ in range(4)]
    del parts
    print(faults() - before)
"""


def faults_of_an_update(how, megabytes):
    """Of four tensors of that many MiB, freed at its end: the median of twenty updates.

    Now and then a small block lies where a large one was and an update takes new memory once.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(megabytes)],
        capture_output=True,
        text=True,
        check=True,
    )
    return statistics.median(map(int, done.stdout.split()))


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_an_update_asks_the_system_for_no_page_again():
    """Given back, 64 MiB an update would be 16,384 pages of 4 KiB each time, or 32 of 2 MiB."""
    assert faults_of_an_update("keep", 16) < 8


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc gives back like this")
def test_without_being_told_the_system_clears_large_tensors_anew_in_every_update():
    """From 32 MiB on glibc always does; smaller ones depend on what lies beside them."""
    assert faults_of_an_update("give back", 40) > 50
