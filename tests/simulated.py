"""Made-up studies of two arms, for the tests of the analysis."""

import math
from collections.abc import Callable

import numpy as np

from raysl.analysis.scores import Score

# Konstantakos et al., Neurocomputing 620 (2025) 129199, figure 8: top-5 accuracy of a ResNet-50 on
# ImageNet-100, pretrained with SimCLR and probed, or trained from scratch; one run each.
FIGURE_8 = {100_000: (73.5, 70.6), 80_000: (70.2, 69.4), 65_000: (67.7, 67.4), 50_000: (63.9, 64.8)}
SIZES = np.geomspace(5e3, 3e5, 6)

Mean = Callable[[float | None], float | None]


def figure_8():
    return [
        Score(arm, float(size), 0, pair[i])
        for size, pair in FIGURE_8.items()
        for i, arm in enumerate(("simclr", "scratch"))
    ]


def flat(level: float) -> Mean:
    return lambda size: level


def line(at: float, *, through: float, slope: float) -> Mean:
    """A level at size `through`, changing by `slope` points per e-fold; None for size None."""
    return lambda size: None if size is None else at + slope * math.log(size / through)


RISING = line(80, through=1500, slope=3)
SIZED = line(80, through=1500, slope=0.0)  # a level baseline that depends on the size all the same


def study(
    arm: Mean,
    base: Mean,
    *,
    sizes=(500, 1000, 2000, 4000, 8000),
    seeds=3,
    sd=0.5,
    shared=0.0,
    rng=0,
) -> list[Score]:
    """Scores of two arms with the mean curves `arm` and `base`, flat where base(None) is a number.

    shared: the share of the noise variance that trials of one seed and size have in common.
    """
    rng = np.random.default_rng(rng)
    scores = []
    for seed in range(seeds):
        for size in sizes:
            common, mine, other = rng.normal(0, sd, size=3) * np.sqrt(
                [shared, 1 - shared, 1 - shared]
            )
            scores.append(Score("simclr", float(size), seed, arm(size) + common + mine))
            if base(None) is None:
                scores.append(Score("scratch", float(size), seed, base(size) + common + other))
        if base(None) is not None:
            scores.append(Score("scratch", None, seed, base(None) + rng.normal(0, sd)))
    return scores


def with_seed_effects(scores: list[Score], sd: float, rng: int = 1) -> list[Score]:
    """The scores with an amount added that all trials of a seed share, as few labels make it."""
    effects = np.random.default_rng(rng).normal(0, sd, size=100)
    return [Score(s.arm, s.size, s.seed, s.value + effects[s.seed]) for s in scores]


def with_other_seeds(scores: list[Score], arm: str) -> list[Score]:
    """The scores with seeds of an arm's own, so that nothing is known to be shared."""
    return [Score(s.arm, s.size, s.seed + 50 * (s.arm == arm), s.value) for s in scores]


def power_law_world(rng: np.random.Generator, low: float = 5e3, high: float = 3e5):
    """Two power laws of the error with exactly one crossing: its size, baseline and arm."""
    while True:
        crossing = math.exp(rng.uniform(math.log(low), math.log(high)))
        error = rng.uniform(15, 45)
        floors = rng.uniform(0.1, 0.65, size=2) * error
        exponent = rng.uniform(0.12, 0.6)
        slope = (error - floors[0]) * exponent + math.exp(rng.uniform(0, math.log(6)))
        exponents = exponent, slope / (error - floors[1])

        def curve(size, i, error=error, floors=floors, exponents=exponents, crossing=crossing):
            return 100 - floors[i] - (error - floors[i]) * (size / crossing) ** -exponents[i]

        fine = np.geomspace(low, high, 300)
        ahead = curve(fine, 1) > curve(fine, 0)
        if np.sum(ahead[1:] != ahead[:-1]) == 1 and min(curve(low, 0), curve(low, 1)) > 12:
            return crossing, lambda n, c=curve: c(n, 0), lambda n, c=curve: c(n, 1)


def simulated(rng: np.random.Generator, base: Mean, arm: Mean, *, seeds: int, sd=None):
    """Scores at six sizes of 5,000 to 300,000; sd by default between 0.3 and 1."""
    sd = sd or rng.uniform(0.3, 1.0)
    return [
        Score(name, float(size), seed, mean(size) + rng.normal(0, sd))
        for name, mean in (("scratch", base), ("simclr", arm))
        for size in SIZES
        for seed in range(seeds)
    ]


def covers(threshold, truth: float) -> bool:
    """The interval holds the crossing, where an end at an end of the range is open."""
    low, high = threshold.sizes
    return (threshold.low <= truth or threshold.low <= low) and (
        threshold.high >= truth or threshold.high >= high
    )
