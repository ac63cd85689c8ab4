"""Claims about rates and medians, judged by whether a sample contradicts them."""

from collections.abc import Iterable

import numpy as np
from scipy import stats

LEVEL = 0.005  # of every claim: the risk that it fails by chance where it is only just true
RESAMPLES = 10_000


def expect_at_least(bar: float, held: Iterable[bool]) -> None:
    """Fail where a count contradicts that the true rate is at least the bar: a binomial test.

    The rate in the sample may well be below the bar, since every machine, by its rounding, draws
    another sample.
    """
    held = list(held)
    p = stats.binomtest(sum(held), len(held), bar, alternative="less").pvalue
    assert p >= LEVEL, f"{sum(held)} of {len(held)} contradict at least {bar:.1%} (p = {p:.2g})"


def expect_at_most(bar: float, held: Iterable[bool]) -> None:
    """Fail where a count contradicts that the true rate is at most the bar."""
    held = list(held)
    p = stats.binomtest(sum(held), len(held), bar, alternative="greater").pvalue
    assert p >= LEVEL, f"{sum(held)} of {len(held)} contradict at most {bar:.1%} (p = {p:.2g})"


def expect_median_at_most(bar: float, values: np.ndarray) -> None:
    """Fail where values [N] contradict that their true median is at most the bar: a sign test."""
    expect_at_most(0.5, values > bar)


def expect_median_no_larger(ours: np.ndarray, others: np.ndarray) -> None:
    """Fail where errors in the same worlds [N] contradict that our median is at most the others'.

    That is where a paired bootstrap finds the difference above 0 but for `LEVEL` of its samples.
    """
    worlds = np.random.default_rng(0).integers(len(ours), size=(RESAMPLES, len(ours)))
    excess = np.median(ours[worlds], axis=1) - np.median(others[worlds], axis=1)
    assert np.mean(excess <= 0) >= LEVEL, f"{np.median(ours):.2%} against {np.median(others):.2%}"
