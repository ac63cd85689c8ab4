"""Simulated studies on all cores: the same results, sooner."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import pytest

from raysl.cpus import usable_cpus


@contextmanager
def all_cores() -> Iterator[Callable[[Callable, Iterable], list]]:
    """A map over worker processes, which take seconds to start and end with the block.

    It gives the results in order, of a function that can be imported.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # matrices are tiny: more threads only wait
        patch.setenv("OPENBLAS_NUM_THREADS", "1")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(usable_cpus(), mp_context=context) as pool:
            yield lambda function, items: list(pool.map(function, items, chunksize=4))


def on_all_cores(function: Callable, items: Iterable) -> list:
    """The function, one that can be imported, of every item, in order."""
    with all_cores() as each:
        return each(function, items)
