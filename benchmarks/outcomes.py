"""What a strategy answers, what it pays, and how draws of a difference become a claim."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from worlds import FINE, SIZES, World, grid_cost

from raysl.analysis.switch import switch_points

Claim = Literal["found", "always", "never", "several", "undetermined"]
X = np.log(SIZES)  # [15]
FINE_X = np.log(FINE[::10])  # [57] where difference curves are compared
ATTEMPTS = 3  # of one run, then a new seed takes its place


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An answer for method 1 against the baseline, sizes in images.

    point, low, high: an end of the range that was looked at means "there or beyond".
    cost: compute, in full grids of the same world; runs: attempts, failed ones included.
    """

    claim: Claim
    point: float
    low: float
    high: float
    cost: float
    runs: int


@dataclass(kw_only=True)
class Purchases:
    """The runs that a strategy bought of a world; failed attempts are paid and tried again."""

    world: World
    values: dict[tuple[int, int], dict[int, float]] = field(
        default_factory=lambda: defaultdict(dict)
    )  # (arm, size) to seed to error in points
    spent: float = 0.0
    runs: int = 0

    @property
    def cost(self) -> float:
        return self.spent / grid_cost(self.world)

    def buy(self, arm: int, size: int, seed: int) -> bool:
        """Whether the run succeeded within its attempts."""
        for attempt in range(ATTEMPTS):
            self.spent += self.world.cost[arm, size]
            self.runs += 1
            accuracy = self.world.run(arm, size, seed, attempt)
            if accuracy is not None:
                self.values[arm, size][seed] = 100 - accuracy
                return True
        return False

    def buy_cell(self, arm: int, size: int, num: int) -> None:
        """`num` runs of a cell, with the lowest seeds that succeed."""
        seed = 0
        while len(self.values[arm, size]) < num:
            self.buy(arm, size, seed)
            seed += 1

    def buy_pair(self, size: int) -> None:
        """Both arms at the lowest seed not yet used there, at a later one where a run fails."""
        seed = max((*self.values[0, size], *self.values[1, size], -1)) + 1
        while not (self.buy(0, size, seed) and self.buy(1, size, seed)):
            seed += 1

    def pairs(self) -> dict[int, np.ndarray]:
        """Differences, baseline minus method, of the complete pairs at each size, in order."""
        found = {}
        for size in range(len(SIZES)):
            base, method = self.values.get((0, size), {}), self.values.get((1, size), {})
            both = [base[seed] - method[seed] for seed in sorted(base.keys() & method.keys())]
            if both:
                found[size] = np.array(both)
        return found

    def means(self, arm: int, sizes: list[int]) -> np.ndarray:
        """Mean error of an arm at some sizes.  # [K]"""
        return np.array([np.mean(list(self.values[arm, size].values())) for size in sizes])

    def within(self) -> tuple[float, int]:
        """Sum of squares around the cells' means, and its degrees of freedom."""
        cells = [np.array(list(cell.values())) for cell in self.values.values() if cell]
        squares = sum(float(np.sum((cell - cell.mean()) ** 2)) for cell in cells)
        return squares, sum(len(cell) - 1 for cell in cells)


def answer(
    purchases: Purchases,
    x: np.ndarray,
    draws: np.ndarray,
    *,
    point: float | None = None,
    confidence: float = 0.9,
) -> Outcome:
    """The outcome of draws [J, K] of the difference at x [K], baseline minus method in points.

    `point`: log n; without one the median of the draws. The rules of claims are those of section
    3.3 of the threshold method.
    """
    switches = switch_points(x, draws)  # [J]
    first, last = np.mean(switches <= x[0]), np.mean(switches >= x[-1])
    several = np.mean(np.count_nonzero(np.diff(draws > 0, axis=1), axis=1) >= 2)
    claim: Claim = "undetermined"
    if several >= 0.5:
        claim = "several"
    elif first >= 0.95:
        claim = "always"
    elif last >= 0.95:
        claim = "never"
    elif first + last <= 0.05 and several < 0.2:
        claim = "found"
    low, middle, high = np.quantile(switches, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    return Outcome(
        claim=claim,
        point=float(np.exp(middle if point is None else point)),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        cost=purchases.cost,
        runs=purchases.runs,
    )
