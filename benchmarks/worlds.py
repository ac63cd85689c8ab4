"""Simulated studies of which the truth is known: error curves, seed noise, costs, failures.

A world is a function of (kind, number), so that anyone can run numbers which nobody tuned on; its
variants (noise that falls with the size, failed runs, outliers, ...) keep its curves.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from world_curves import DRAWS, FINE, NUM_SIZES, STEPS, crossings

SIZES = FINE[::STEPS]  # [15] candidate pool sizes, each 1.34 times the one before

GRID_SIZES = tuple(range(0, NUM_SIZES, 2))  # the full grid: 8 sizes over the whole range ...
GRID_SEEDS = (0, 1, 2)  # ... with 3 seeds
GRID = tuple((arm, size, seed) for size in GRID_SIZES for seed in GRID_SEEDS for arm in (0, 1))

CODES = {"single": 1, "none": 2, "misspecified": 3, "double": 4, "two_methods": 5}
KINDS = tuple(CODES)
VARIANTS: dict[str, dict[str, float]] = {  # keyword arguments of make_world
    "plain": {},
    "heteroscedastic": {"noise_exponent": 0.25},
    "failed runs": {"failure": 0.15},
    "outliers": {"failure": 0.10, "outlier": 0.04},
    "correlated pairs": {"pair_correlation": 0.5},
    "dear method": {"cost_factor": 4.0},
}


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A simulated study: arm 0 is the baseline, the others are methods."""

    kind: str
    number: int
    curves: np.ndarray  # [A, G] true error in points at FINE
    truth: tuple[float | None, ...]  # the true threshold of each method; None: it has no single one
    sd: np.ndarray  # [A, 15] of the seeds, points
    cost: np.ndarray  # [A, 15] of a run, in images x epochs; a failed one costs the same
    pair_correlation: float = 0.0  # of the runs of one (size, seed) over the arms
    failure: float = 0.0  # probability that an attempt fails
    outlier: float = 0.0  # probability that a run is 3 to 8 points worse

    @property
    def errors(self) -> np.ndarray:
        """True error in points at SIZES.  # [A, 15]"""
        return self.curves[:, ::STEPS]

    def run(self, arm: int, size: int, seed: int, attempt: int = 0) -> float | None:
        """Accuracy in percent of one run at SIZES[size]; None: this attempt failed.

        A pure function of its arguments. A later attempt that succeeds has the value that the
        first would have had, as a recipe fixes its result.
        """
        key = (CODES[self.kind], self.number, size, seed)
        own = np.random.default_rng((*key, 2 + arm))
        noise = own.normal()
        surprise, depth = own.random(), own.uniform(3, 8)
        if own.random(attempt + 1)[attempt] < self.failure:
            return None
        if self.pair_correlation:
            shared = np.random.default_rng((*key, 1)).normal()
            weight = self.pair_correlation
            noise = np.sqrt(weight) * shared + np.sqrt(1 - weight) * noise
        error = self.errors[arm, size] + self.sd[arm, size] * noise
        return float(100 - error - (depth if surprise < self.outlier else 0.0))


def make_world(
    kind: str,
    number: int,
    *,
    noise_exponent: float = 0.0,
    pair_correlation: float = 0.0,
    failure: float = 0.0,
    outlier: float = 0.0,
    cost_factor: float = 1.0,
) -> World:
    """World `number` of a kind; the curves and the level of noise are the same in all variants.

    The noise falls as n^-noise_exponent; `cost_factor`: of a method's run, in baseline runs.
    """
    if kind not in CODES:
        raise ValueError(f"no kind of world is called {kind!r}: choose one of {', '.join(KINDS)}")
    rng = np.random.default_rng((CODES[kind], number))
    curves = DRAWS[kind](rng)
    num_arms = len(curves)
    level = rng.uniform(0.3, 1) * rng.uniform(0.8, 1.25, num_arms)  # [A]
    falling = (SIZES / np.sqrt(SIZES[0] * SIZES[-1])) ** -noise_exponent  # 1 in mid range
    factor = np.array([1.0] + [cost_factor] * (num_arms - 1))
    single = kind not in ("none", "double")
    return World(
        kind=kind,
        number=number,
        curves=curves,
        truth=tuple(crossings(curves, arm)[0] if single else None for arm in range(1, num_arms)),
        sd=level[:, None] * falling,
        cost=factor[:, None] * SIZES,
        pair_correlation=pair_correlation,
        failure=failure,
        outlier=outlier,
    )


def make_worlds(kind: str, num: int, *, first: int = 0, variant: str = "plain") -> Iterator[World]:
    """`num` worlds of a kind and a variant, from number `first` on."""
    for number in range(first, first + num):
        yield make_world(kind, number, **VARIANTS[variant])


def grid_cost(world: World) -> float:
    """What the full grid costs in this world, over all its arms: the unit of compute, 1.00."""
    return float(len(GRID_SEEDS) * world.cost[:, GRID_SIZES].sum())
