"""Which trial tells most about the threshold for its cost.

A pure function of the trials so far: candidates are (arm, size, seed), and the one with the largest
expected fall of the variance of log n* (`gain`), divided by a power of its cost, is next.
"""

import itertools
import math
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

import numpy as np

from raysl.analysis.curves import Array, Prior, Range, Runs
from raysl.analysis.posterior import draw, fit
from raysl.analysis.verdict import Verdict
from raysl.rng import numpy_generator
from raysl.study.gain import Candidate, Known, Outcome, Table

START = (0.0, 5 / 14, 9 / 14)  # shares of the range, in log, where every arm starts
FAILING, FAILED_SHARE = 3, 0.5  # a cell that fails so often, and in this share, is left out
KEPT_FITS = 3  # the last: of all trials, and of two looks at the stopping rule


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a search for a threshold aims at, and what it believes beforehand.

    target_ratio: upper over lower end of the interval at which the search ends. margin: by how
    many points the arm must be ahead. cost_power: of the cost that divides the gain. round: trials
    between two looks at the stopping rule; it must hold twice in a row. sd, sd_spread: prior of the
    noise of one trial in points, median and spread of the logarithm. pair_from: from which
    correlation of a pair's noise on pairs are bought; -1 always. max_seeds: of one cell.
    grid_seeds: the search costs at most what a grid with so many seeds would.
    """

    target_ratio: float = 1.5
    margin: float = 0.0
    cost_power: float = 0.5
    round: int = 4
    sd: float = 0.6
    sd_spread: float = 0.6
    pair_from: float = 0.3
    max_seeds: int = 20
    grid_seeds: int = 3
    draws: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.target_ratio > 1:
            raise ValueError(
                f"target_ratio must be above 1, not {self.target_ratio}; 1.5 asks for an interval "
                "whose upper end is 1.5 times its lower."
            )
        if self.margin < 0:
            raise ValueError(f"The margin must not be below 0, not {self.margin}.")

    @property
    def prior(self) -> Prior:
        return Prior(sd=self.sd, sd_spread=self.sd_spread)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The next trial, and why: expected share of the variance of log n* that it takes away.

    verdicts: of each method before it. sd: of log n*, averaged over the methods.
    """

    candidate: Candidate
    reason: str
    gain: float | None = None
    sd: float | None = None
    verdicts: tuple[Verdict, ...] = ()


class Designer:
    """Chooses trials for arms on sizes; keeps nothing but its last fits, which it could redo.

    sizes: [K], increasing. flat: for each arm whether it does not depend on the size; arm 0 is
    the baseline that all others share.
    """

    def __init__(self, sizes: Sequence[float], flat: Sequence[bool], design: Design):
        self.x = np.log(np.asarray(sizes, dtype=float))
        self.flat = tuple(flat)
        self.design = design
        self.span = Range(low=float(self.x[0]), high=float(self.x[-1]))
        shares = (self.x - self.span.low) / (self.span.high - self.span.low)
        self.start = sorted({int(np.argmin(np.abs(shares - s))) for s in START})
        self._fits: dict[tuple[Outcome, ...], Known] = {}

    def known(self, finished: Sequence[Outcome]) -> Known:
        """What these trials say; the same for the same trials."""
        key = tuple(finished)
        if key not in self._fits:
            if len(self._fits) == KEPT_FITS:
                del self._fits[next(iter(self._fits))]
            posterior = fit(self.runs(finished), self.flat, self.span, self.design.prior)
            rng = numpy_generator(self.design.seed, "design", len(finished))
            draws = draw(posterior, self.design.draws, rng)
            self._fits[key] = Known(
                posterior=posterior, draws=draws, x=self.x, margin=self.design.margin
            )
        return self._fits[key]

    def runs(self, finished: Sequence[Outcome]) -> Runs:
        """The trials that did not fail."""
        done = [(o.candidate, o.value) for o in finished if o.value is not None]
        sizes = [math.nan if c.size is None else self.x[c.size] for c, _ in done]
        return Runs(
            arm=np.array([c.arm for c, _ in done], dtype=np.int64),
            x=np.array(sizes),
            seed=np.array([c.seed for c, _ in done], dtype=np.int64),
            error=np.array([-value for _, value in done]),
        )

    def choose(
        self,
        finished: Sequence[Outcome],
        running: Sequence[Candidate],
        costs: Array,
        *,
        last: Candidate | None = None,
    ) -> Choice | None:
        """The next trial, given the cost of each arm at each size [A, K]; None: no candidate.

        costs: inf where a trial cannot be paid. last: the trial that was chosen before this one;
        where pairs are bought, its partner is due.
        """
        used = {o.candidate for o in finished} | set(running)
        for size in self.start:
            for arm, flat in enumerate(self.flat):
                first = Candidate(arm, None if flat else size, 0)
                if first not in used and math.isfinite(costs[arm, size]):
                    return Choice(candidate=first, reason="start: every arm at three sizes")
        groups = self._candidates(finished, used, costs)
        if not groups:
            return None
        known = self.known(finished)
        paired = known.pair_correlation > self.design.pair_from
        if paired:
            partner = self._partner(last, used)
            if partner is not None and math.isfinite(_cost([partner], costs)):
                return Choice(candidate=partner, reason="completes a pair", verdicts=known.verdicts)
            pairs = self._pairs(groups, used)
            groups = [pair for pair in pairs if math.isfinite(_cost(pair, costs))] or groups
        table = Table(known, [*running, *itertools.chain(*groups)], seed=self.design.seed)
        for number in range(len(running)):
            table.measure(number)
        lengths = np.array([len(group) for group in groups])
        first_of = len(running) + np.cumsum(lengths) - lengths
        gains = table.gains()[first_of]
        (pairs_at,) = np.nonzero(lengths == 2)
        gains[pairs_at] += table.gains_after(first_of[pairs_at], first_of[pairs_at] + 1)
        cost = np.array([_cost(group, costs) for group in groups])
        best = int(np.argmax(gains / cost**self.design.cost_power))
        gain = float(gains[best])
        reason = "largest expected gain for its cost" + (", first of a pair" if paired else "")
        if gain <= 0:
            best = self._nearest(groups, float(np.median(known.switches[0])))
            reason = "no trial promises much: nearest to the threshold"
        return Choice(
            candidate=groups[best][0],
            reason=reason,
            gain=gain,
            sd=table.sd,
            verdicts=known.verdicts,
        )

    def _candidates(
        self, finished: Sequence[Outcome], used: Set[Candidate], costs: Array
    ) -> list[tuple[Candidate, ...]]:
        """The next seed of every cell that can be paid and has not failed too often."""
        count: dict[tuple[int, int | None], list[bool]] = {}
        for o in finished:
            count.setdefault((o.candidate.arm, o.candidate.size), []).append(o.value is None)
        found: list[tuple[Candidate, ...]] = []
        taken = _taken(used)
        for arm, flat in enumerate(self.flat):
            for size in [None] if flat else range(len(self.x)):
                failed = count.get((arm, size), [])
                failing = sum(failed) >= FAILING and sum(failed) >= FAILED_SHARE * len(failed)
                seed = _next_seed(taken.get((arm, size), ()))
                next_one = Candidate(arm, size, seed)
                payable = math.isfinite(_cost([next_one], costs))
                if not failing and payable and seed < self.design.max_seeds:
                    found.append((next_one,))
        return found

    def _pairs(
        self, singles: Sequence[tuple[Candidate, ...]], used: Set[Candidate]
    ) -> list[tuple[Candidate, ...]]:
        """A method's trial with the baseline's of one seed that neither has, at every size.

        Where the baseline is flat its trial of a seed serves all sizes, and may be there already.
        """
        cells = {(c.arm, c.size) for (c,) in singles}
        taken = _taken(used)
        found: list[tuple[Candidate, ...]] = []
        for arm, size in sorted(cells - {(0, None)}, key=str):
            base = (0, None) if self.flat[0] else (0, size)
            if arm == 0 or (base not in cells and not self.flat[0]):
                continue
            shared = [(arm, size)] if self.flat[0] else [(arm, size), base]
            seed = _next_seed(set().union(*(taken.get(cell, set()) for cell in shared)))
            first = Candidate(*base, seed)
            pair: tuple[Candidate, ...] = (Candidate(arm, size, seed),)
            if first not in used:
                pair = (first, *pair)
            if seed < self.design.max_seeds:
                found.append(pair)
        return found

    def _partner(self, last: Candidate | None, used: Set[Candidate]) -> Candidate | None:
        """What the last choice, a baseline's trial, still lacks: the first method's of its seed."""
        if last is None or last.arm != 0 or last.size is None:
            return None
        partners = [Candidate(arm, last.size, last.seed) for arm in range(1, len(self.flat))]
        return None if used & set(partners) else partners[0]

    def _nearest(self, groups: Sequence[tuple[Candidate, ...]], place: float) -> int:
        """The group at the size nearest to log n*, with the fewest trials there."""

        def key(number: int) -> tuple[float, int]:
            c = groups[number][-1]
            return 0.0 if c.size is None else abs(float(self.x[c.size]) - place), c.seed

        return min(range(len(groups)), key=key)


def _cost(trials: Sequence[Candidate], costs: Array) -> float:
    return float(sum(costs[c.arm, c.size or 0] for c in trials))


def _taken(used: Set[Candidate]) -> dict[tuple[int, int | None], set[int]]:
    """The seeds that each cell has had."""
    found: dict[tuple[int, int | None], set[int]] = {}
    for c in used:
        found.setdefault((c.arm, c.size), set()).add(c.seed)
    return found


def _next_seed(taken: Collection[int]) -> int:
    """The lowest that is not taken, so that seeds match over the arms."""
    return next(seed for seed in itertools.count() if seed not in taken)
