"""Simulated studies on all cores: the same results, sooner."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from raysl.cpus import usable_cpus


@contextmanager
def all_cores() -> Iterator[Callable[[Callable, Iterable], list]]:
    """A map over worker processes, which end with the block.

    It gives the results in order, of a function that can be imported.
    """
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(usable_cpus(), mp_context=context) as pool:
        yield lambda function, items: list(pool.map(function, items, chunksize=4))


def on_all_cores(function: Callable, items: Iterable) -> list:
    """The function, one that can be imported, of every item, in order."""
    with all_cores() as each:
        return each(function, items)
