"""The best single switch point of difference curves, exactly, for many curves at once.

D(x) is piecewise linear in x = log n through its values at K sizes. The rule "use the arm iff
n >= n*" has least regret at L = argmin over x of the integral of D from the first size to x. L is
an upward crossing of D or an end of the range: the first size where the arm is ahead throughout,
the last where it never is.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def switch_points(x: Array, differences: Array) -> Array:
    """L of each curve [J] from the knots' x [K], increasing, and D there [J, K]."""
    widths = np.diff(x)
    left, right = differences[:, :-1], differences[:, 1:]  # [J, K-1] each
    integral = np.zeros_like(differences)  # of D up to each knot, or to the crossing after it
    np.cumsum((left + right) * (widths / 2), axis=1, out=integral[:, 1:])
    curve, knot = np.nonzero((left < 0) & (right > 0))  # there it is below both knots' integrals
    before, after = left[curve, knot], right[curve, knot]
    integral[curve, knot] += before * before / (before - after) * widths[knot] / 2
    best = np.argmin(integral, axis=1)
    following = np.minimum(best + 1, len(x) - 1)
    rows = np.arange(len(differences))
    before, after = differences[rows, best], differences[rows, following]
    rises = (before < 0) & (after > 0)
    share = np.where(rises, before / np.where(rises, before - after, 1.0), 0.0)
    found: Array = x[best] + share * (x[following] - x[best])
    return found


def sign_changes(x: Array, difference: Array) -> list[tuple[float, int, int, bool]]:
    """Where one curve D [K] changes sign: (x there, knot before, knot after, upwards)."""
    knots = np.flatnonzero(difference)
    found = []
    for i, j in itertools.pairwise(knots):
        before, after = difference[i], difference[j]
        if before * after < 0:
            # between them D is straight, or lies on zero: then the middle of that stretch
            place = x[i] - before * (x[j] - x[i]) / (after - before) if j == i + 1 else None
            middle = (x[i + 1] + x[j - 1]) / 2
            found.append(
                (float(middle if place is None else place), int(i), int(j), bool(before < 0))
            )
    return found


def reversal_probabilities(differences: Array) -> tuple[float, float]:
    """From draws of D at the knots [J, K]: P(two changes of sign), P(from above zero to below).

    Each is the largest probability, over all choices of three (two) sizes, that D alternates
    there. Counting the changes of every draw instead would call noise around zero a crossing.
    """
    num_draws, num_knots = differences.shape
    above, below = _one_bit_each(differences > 0), _one_bit_each(differences < 0)
    falls = twice = 0
    for j in range(1, num_knots):
        falls = max(falls, _most(above[:j] & below[j]))
        peak = (below[:j] & above[j])[:, None] & below[j + 1 :]  # [j, K - j - 1, J / 64]
        dip = (above[:j] & below[j])[:, None] & above[j + 1 :]
        twice = max(twice, _most(peak), _most(dip))
    return twice / num_draws, falls / num_draws


def _one_bit_each(holds: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """64 draws in one number, each knot's draws together: [J, K] to [K, J / 64]."""
    packed = np.packbits(np.ascontiguousarray(holds.T), axis=1)
    return np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8))).view(np.uint64)


def _most(draws: NDArray[np.uint64]) -> int:
    """The largest number of draws, of any choice of sizes [..., J / 64]."""
    return int(np.bitwise_count(draws).sum(axis=-1, dtype=np.int64).max(initial=0))
