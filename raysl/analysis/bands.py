"""Draws of the curves as what a table or a figure shows: intervals, bands, bins, residuals."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from raysl.analysis.answer import Crossing, Difference, FittedCurve, Residual
from raysl.analysis.curves import Array, Range
from raysl.analysis.posterior import Draws, Posterior, residuals
from raysl.analysis.switch import sign_changes, switch_points
from raysl.analysis.verdict import credible_tail

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NUM_BINS = 40  # of the posterior of log n*


def at_sizes(
    draws: Draws, measured: Mapping[float, float], *, point: float, confidence: float
) -> tuple[Difference, ...]:
    """The difference at each size: of the means, and of the curves with its interval."""
    x = np.log(np.array(list(measured)))
    lead = (draws.errors(0, x) - draws.errors(1, x)) * point  # [J, K]
    low, estimate, high = np.quantile(lead, _levels(confidence), axis=0)
    return tuple(
        Difference(
            size=size,
            mean=mean,
            estimate=float(estimate[i]),
            low=float(low[i]),
            high=float(high[i]),
        )
        for i, (size, mean) in enumerate(measured.items())
    )


def along_the_range(span: Range, lead: Array, *, confidence: float) -> tuple[Difference, ...]:
    """The difference at every second knot, with a band that holds the whole curve."""
    lead = lead[:, ::2]  # [J, K]
    low, estimate, high = np.quantile(lead, _levels(confidence), axis=0)
    spread = np.maximum(lead.std(axis=0), 1e-12)
    farthest = np.abs((lead - estimate) / spread).max(axis=1)  # [J]
    reach = np.quantile(farthest, 1 - 2 * credible_tail(confidence)) * spread  # [K]
    return tuple(
        Difference(
            size=size,
            estimate=float(estimate[i]),
            low=float(low[i]),
            high=float(high[i]),
            band_low=float(estimate[i] - reach[i]),
            band_high=float(estimate[i] + reach[i]),
        )
        for i, size in enumerate(np.exp(span.knots[::2]).tolist())
    )


def fitted(draws: Draws, number: int, arm: str, *, is_flat: bool, point: float) -> FittedCurve:
    """Quantiles of an arm's metric along the range."""
    values = -draws.errors(number)[:, ::2] * point  # [J, K]
    return FittedCurve(
        arm=arm,
        is_flat=is_flat,
        sizes=tuple(np.exp(draws.span.knots[::2]).tolist()),
        quantiles=tuple(tuple(row) for row in np.quantile(values, QUANTILES, axis=0).tolist()),
    )


def places(span: Range, lead: Array) -> tuple[tuple[float, float, float], ...]:
    """The posterior of n* between the ends of the range, as (from, to, probability)."""
    switches = switch_points(span.knots, lead)
    inside = switches[(switches > span.low) & (switches < span.high)]
    edges = np.linspace(span.low, span.high, NUM_BINS + 1)
    counts, _ = np.histogram(inside, edges)
    shares = counts / len(switches)
    ends = np.exp(edges).tolist()
    return tuple(zip(ends[:-1], ends[1:], shares.tolist(), strict=True))


def crossings(
    x: Array, lead: Array, *, ends: tuple[float, float], confidence: float
) -> tuple[Crossing, ...]:
    """Where the median difference changes sign; probability that it does so between its lobes.

    x: knots [K], from one of the ends to the other; lead: draws there [J, K]. A single fall has an
    interval too.
    """
    middle = np.median(lead, axis=0)  # [K]
    changes = sign_changes(x, middle)
    edges = [0, *(after for _, _, after, _ in changes), len(x)]
    peaks = [
        start + int(np.argmax(np.abs(middle[start:stop])))
        for start, stop in itertools.pairwise(edges)
    ]
    found = []
    for number, (place, _, _, upward) in enumerate(changes):
        left, right = lead[:, peaks[number]], lead[:, peaks[number + 1]]
        changed = (left < 0) & (right > 0) if upward else (left > 0) & (right < 0)
        low = high = None
        if len(changes) == 1 and not upward:
            low, _, high = np.exp(np.quantile(switch_points(x, -lead), _levels(confidence)))
        found.append(
            Crossing(
                size=math.exp(place),
                upward=upward,
                probability=float(np.mean(changed)),
                low=None if low is None else within(float(low), ends),
                high=None if high is None else within(float(high), ends),
            )
        )
    return tuple(found)


def residuals_of(posterior: Posterior, arms: Sequence[str]) -> tuple[Residual, ...]:
    """Each trial's distance from its arm's curve."""
    runs = posterior.runs
    rows = zip(runs.arm, runs.x, runs.seed, residuals(posterior), strict=True)
    return tuple(
        Residual(
            arm=arms[arm],
            size=None if math.isnan(x) else float(math.exp(x)),
            seed=int(seed),
            z=float(z),
        )
        for arm, x, seed, z in rows
    )


def within(size: float, ends: tuple[float, float]) -> float:
    """The size, exactly an end of the range where it lies there but for rounding, or beyond."""
    low, high = ends
    if size <= low * (1 + 1e-9):
        return low
    return high if size >= high * (1 - 1e-9) else size


def _levels(confidence: float) -> tuple[float, float, float]:
    tail = credible_tail(confidence)
    return tail, 0.5, 1 - tail
