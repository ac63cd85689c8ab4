"""What finished trials say about the thresholds, and what further trials are expected to add.

From draws of the curves comes the covariance of log n* with what each trial would measure. Trials
that run are counted as if measured, by rank-1 downdates of it, so that workers diversify.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysl.analysis.curves import Array, Indices
from raysl.analysis.posterior import Draws, Posterior, residuals
from raysl.analysis.switch import switch_points
from raysl.analysis.verdict import Verdict, judge
from raysl.rng import numpy_generator

BEYOND = 0.35  # e-folds beyond the range at which log n* is cut while searching ...
NUM_WIDE = 41  # ... on so many knots


@dataclass(frozen=True)
class Candidate:
    """A trial that could be run; arm 0 is the baseline, size a number too, None of a flat arm."""

    arm: int
    size: int | None
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A trial that was run; value: the metric in points, higher is better, None if it failed."""

    candidate: Candidate
    value: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """What the finished trials say: posterior and draws, and what follows from them.

    x: log sizes of the candidates [K]. margin: by how many points a method must be ahead.
    """

    posterior: Posterior
    draws: Draws
    x: Array
    margin: float

    @property
    def methods(self) -> range:
        return range(1, len(self.posterior.arms))

    @functools.cached_property
    def switches(self) -> Array:
        """log n* of each method in each draw, cut a little beyond the range [M, J]."""
        span = self.posterior.span
        wide = np.linspace(span.low - BEYOND, span.high + BEYOND, NUM_WIDE)
        base = self.draws.errors(0, wide) - self.margin
        return np.array(
            [switch_points(wide, base - self.draws.errors(m, wide)) for m in self.methods]
        )

    @functools.cached_property
    def at_sizes(self) -> Array:
        """Error of each arm at each size in each draw [A, J, K]."""
        return np.array([self.draws.errors(arm, self.x) for arm in (0, *self.methods)])

    @functools.cached_property
    def pair_correlation(self) -> float:
        """Of the noise of two arms' trials with one seed (and size), as far as it is known."""
        runs, z = self.posterior.runs, residuals(self.posterior)
        pairs: dict[tuple[float, int], dict[int, float]] = {}
        for arm, x, seed, value in zip(runs.arm, runs.x, runs.seed, z, strict=True):
            pairs.setdefault((float(x), int(seed)), {})[int(arm)] = float(value)
        found = [(p[0], p[m]) for p in pairs.values() for m in p if m and 0 in p]
        products = sum(a * b for a, b in found)
        # two pairs without correlation are there beforehand, so that few pairs do not decide
        squares = sum((a * a + b * b) / 2 for a, b in found) + 2.0
        return max(self.posterior.correlation, products / squares)

    @functools.cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What is known of the threshold of each method."""
        base, knots = self.draws.errors(0) - self.margin, self.draws.span.knots
        sd = self.posterior.sd
        return tuple(judge(knots, base - self.draws.errors(m), sd=sd) for m in self.methods)


class Table:
    """The covariance of each method's log n* with what trials would measure.

    seed: of the shared parts of seeds that no trial has had yet. fresh: each of the trials stands
    for one with a seed of its own, whatever it says; what all arms share is left to cancel.
    """

    def __init__(
        self, known: Known, trials: Sequence[Candidate], *, seed: int, fresh: bool = False
    ):
        draws = known.draws
        m, num_draws = known.switches.shape
        parts = dict(draws.parts)
        rng = numpy_generator(seed, "new seeds")
        columns = np.empty((m + len(trials), num_draws))
        columns[:m] = known.switches
        self.noise = (draws.sds**2).mean(axis=1)[[trial.arm for trial in trials]]
        for number, trial in enumerate(trials):
            columns[m + number] = known.at_sizes[trial.arm, :, trial.size or 0]
            if fresh:
                self.noise[number] += np.mean(draws.own_sd**2)
                continue
            of_arm = [] if trial.size is None else [((trial.arm, trial.seed), draws.own_sd)]
            for key, sd in [((None, trial.seed), draws.shared_sd), *of_arm]:
                if key not in parts:
                    parts[key] = sd * rng.standard_normal(num_draws)
                columns[m + number] += parts[key]
        self.num_draws, self.num_methods = num_draws, m
        self.covariance = np.cov(columns)
        variance = self.variances.copy()  # before anything is measured
        self.weight = 1 / np.maximum(variance, 1e-12)
        self.sd = float(np.sqrt(variance.mean()))

    def measure(self, number: int) -> None:
        """Take the variance away that this trial's result will explain."""
        c = self.num_methods + number
        column = self.covariance[:, c].copy()
        self.covariance -= np.outer(column, column) / (column[c] + self.noise[number])

    @property
    def variances(self) -> Array:
        """Of log n* of each method, as it is expected to be by now [M]."""
        found: Array = np.diag(self.covariance)[: self.num_methods]
        return found

    def gains(self) -> Array:
        """Expected fall of the variances of log n* for each trial, as shares, summed [N]."""
        m = self.num_methods
        return self._falls(
            self.variances[:, None],
            self.covariance[:m, m:],
            np.diag(self.covariance)[m:],
            self.noise,
        )

    def gains_after(self, first: Indices, second: Indices) -> Array:
        """What the second trials add once the first are measured [N]."""
        m = self.num_methods
        own = self.covariance[m + first, m + first] + self.noise[first]
        to_first, to_second = self.covariance[:m, m + first], self.covariance[:m, m + second]
        between = self.covariance[m + first, m + second]
        return self._falls(
            self.variances[:, None] - to_first**2 / own,
            to_second - to_first * between / own,
            self.covariance[m + second, m + second] - between**2 / own,
            self.noise[second],
        )

    def _falls(self, variances: Array, to_trials: Array, spread: Array, noise: Array) -> Array:
        """From variances of log n* [M, N or 1], covariances [M, N] and variances of trials [N]."""
        # a squared sample covariance is too large by Monte-Carlo noise
        bias = 2 * variances * spread / self.num_draws
        falls: Array = self.weight @ (np.maximum(to_trials**2 - bias, 0.0) / (spread + noise))
        return falls
