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
    above = (differences > 0).astype(np.float32)  # [J, K]
    below = (differences < 0).astype(np.float32)
    num_draws, num_knots = differences.shape
    falls = np.triu(above.T @ below, 1).max(initial=0.0)
    twice = 0.0
    for j in range(1, num_knots - 1):
        peak = (below[:, :j] * above[:, j : j + 1]).T @ below[:, j + 1 :]
        dip = (above[:, :j] * below[:, j : j + 1]).T @ above[:, j + 1 :]
        twice = max(twice, float(peak.max()), float(dip.max()))
    return twice / num_draws, float(falls) / num_draws
