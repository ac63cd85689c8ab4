"""The families of true error curves behind the simulated worlds, in points at FINE sizes.

Numbers as in section 2 ("Worlds") of the threshold method. Every family draws again until its
curves keep what it promises; the size of a crossing is drawn only once, so that this does not
bend its distribution.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

NUM_SIZES = 15
STEPS = 40  # of the fine grid, from one candidate size to the next
FINE = np.geomspace(5_000, 300_000, STEPS * (NUM_SIZES - 1) + 1)  # [G]
CHANCE = 90.0  # error in points of guessing among ten classes
MAX_ERROR = 88.0  # of any arm at any size

Curve = Callable[[np.ndarray], np.ndarray]  # sizes to errors in points


def power_law(size: float, error: float, *, floor: float, slope: float) -> Curve:
    """c + A n^-b through `error` at `size`, falling there by `slope` points per e-fold to c."""
    exponent = slope / (error - floor)
    return lambda sizes: floor + (error - floor) * (sizes / size) ** -exponent


def hill(size: float, error: float, *, floor: float, slope: float) -> Curve:
    """A sigmoid in log n from chance to `floor`, else as `power_law`."""
    exponent = slope * (CHANCE - floor) / ((error - floor) * (CHANCE - error))
    odds = (CHANCE - error) / (error - floor)
    return lambda sizes: floor + (CHANCE - floor) / (1 + odds * (sizes / size) ** exponent)


def draw_size(rng: Generator) -> float:
    return float(np.exp(rng.uniform(np.log(FINE[0]), np.log(FINE[-1]))))


def draw_floor(rng: Generator, error: float) -> float:
    """What an arm would reach with endless images: 10 to 65 % of its error at the crossing."""
    return error * rng.uniform(0.1, 0.65)


def draw_gain(rng: Generator) -> float:
    """By how much the method is steeper where it crosses: 1 to 6 points per e-fold."""
    return float(np.exp(rng.uniform(0, np.log(6))))


def draw_pair(rng: Generator, size: float, *, curved: bool = False) -> np.ndarray:
    """Baseline and method that meet at a size, the method steeper there.  # [2, G]

    `curved`: Hill curves, not power laws.
    """
    error = rng.uniform(15, 45)
    floors = draw_floor(rng, error), draw_floor(rng, error)
    slope = rng.uniform(0.12, 0.6) * (error - floors[0])
    family = hill if curved else power_law
    slopes = slope, slope + draw_gain(rng)
    return np.array(
        [
            family(size, error, floor=floor, slope=steepness)(FINE)
            for floor, steepness in zip(floors, slopes, strict=True)
        ]
    )


def draw_single(rng: Generator) -> np.ndarray:
    """Power laws with exactly one crossing; its size stays log-uniform."""
    size = draw_size(rng)
    return first_that(crosses_once, lambda: draw_pair(rng, size))


def draw_none(rng: Generator) -> np.ndarray:
    """A pair pulled apart until its smallest difference is 0.4 to 3 points, either sign."""
    size, smallest, ahead = draw_size(rng), rng.uniform(0.4, 3), rng.random() < 0.5

    def apart() -> np.ndarray:
        baseline, method = draw_pair(rng, size)
        difference = baseline - method
        shift = difference.min() - smallest if ahead else difference.max() + smallest
        return np.array([baseline, method + shift])

    return first_that(lambda curves: True, apart)


def draw_misspecified(rng: Generator) -> np.ndarray:
    """Half power laws with smooth wiggles, half Hill curves."""
    size, curved = draw_size(rng), rng.random() < 0.5

    def bent() -> np.ndarray:
        pair = draw_pair(rng, size, curved=curved)
        return pair if curved else pair + np.array([draw_wiggle(rng), draw_wiggle(rng)])

    return first_that(crosses_once, bent)


def draw_wiggle(rng: Generator) -> np.ndarray:
    """One and two half waves over the range, their rms 0.3 to 0.5 points.  # [G]"""
    t = np.linspace(0, np.pi, len(FINE))
    waves = [np.sin(k * t + rng.uniform(0, 2 * np.pi)) * rng.normal() for k in (1, 2)]
    wiggle = np.sum(waves, axis=0)
    return wiggle * rng.uniform(0.3, 0.5) / np.sqrt(np.mean(wiggle**2))


def draw_double(rng: Generator) -> np.ndarray:
    """Two power laws that meet at two sizes, either of them ahead in between."""
    ahead_between = rng.random() < 0.5

    def meeting_twice() -> np.ndarray:
        first, second = sorted((draw_size(rng), draw_size(rng)))
        error = rng.uniform(15, 45)
        floor = draw_floor(rng, error)
        slope = rng.uniform(0.12, 0.6) * (error - floor)
        baseline = power_law(first, error, floor=floor, slope=slope)
        lower = float(baseline(np.array(second)))
        floor = lower * rng.uniform(0, 0.97)  # the method's; its exponent follows
        exponent = np.log((error - floor) / (lower - floor)) / np.log(second / first)
        method = power_law(first, error, floor=floor, slope=exponent * (error - floor))
        pair = np.array([baseline(FINE), method(FINE)])
        return pair if ahead_between else pair[::-1]

    return first_that(crosses_twice, meeting_twice)


def draw_two_methods(rng: Generator) -> np.ndarray:
    """One baseline and two methods, each meeting it at a size of its own.  # [3, G]"""
    sizes = draw_size(rng), draw_size(rng)

    def three() -> np.ndarray:
        baseline, method = draw_pair(rng, sizes[0])
        x, at = np.log(FINE), np.log(sizes[1])
        error = float(np.interp(at, x, baseline))
        slope = draw_gain(rng) - float(np.interp(at, x, np.gradient(baseline, x)))
        other = power_law(sizes[1], error, floor=draw_floor(rng, error), slope=slope)
        return np.array([baseline, method, other(FINE)])

    return first_that(crosses_once, three)


def first_that(promise: Callable[[np.ndarray], bool], draw: Callable[[], np.ndarray]) -> np.ndarray:
    """The first drawn curves [A, G] that are possible errors and keep a promise."""
    while True:
        curves = draw()
        if curves.min() >= 0.5 and curves.max() <= MAX_ERROR and promise(curves):
            return curves


def crosses_once(curves: np.ndarray) -> bool:
    """Whether every method starts behind the baseline, gets ahead and stays ahead."""
    ahead = curves[1:] < curves[0]  # [M, G]
    changes = np.count_nonzero(np.diff(ahead, axis=1), axis=1)  # [M]
    return bool(np.all(changes == 1) and not ahead[:, 0].any())


def crosses_twice(curves: np.ndarray) -> bool:
    """Whether the difference has three lobes, each more than a point deep."""
    difference = curves[0] - curves[1]  # [G]
    (changes,) = np.nonzero(np.diff(difference > 0))
    lobes = np.split(difference, changes + 1)
    return len(lobes) == 3 and all(np.abs(lobe).max() > 1 for lobe in lobes)


DRAWS = {
    "single": draw_single,
    "none": draw_none,
    "misspecified": draw_misspecified,
    "double": draw_double,
    "two_methods": draw_two_methods,
}


def crossings(curves: np.ndarray, arm: int = 1) -> list[float]:
    """Sizes at which the true difference of a method and the baseline changes sign."""
    difference = curves[0] - curves[arm]  # [G]
    (before,) = np.nonzero(np.diff(difference > 0))
    share = difference[before] / (difference[before] - difference[before + 1])
    return (FINE[before] * (FINE[1] / FINE[0]) ** share).tolist()
