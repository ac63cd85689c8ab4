"""From how many images on an arm beats its baseline: one number with its interval.

The difference of the arms' means is interpolated linearly in log n between the sizes that both
have, and its best single switch point (`switch`) is the threshold. The interval is a parametric
bootstrap: the noise, pooled over cells, is drawn (`spread`), then every mean difference, then how
far the curve bends between the sizes. (Resampling the 3 seeds of each cell instead covers 78 %
where 90 % is claimed.) Nothing is claimed outside the sizes that both arms have.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raysl.analysis.answer import Crossing, Difference, Kind, Masses, Threshold
from raysl.analysis.pair import Pair, make_pair
from raysl.analysis.scores import Score, check_scores, choose_arms
from raysl.analysis.spread import measure_spread
from raysl.analysis.switch import Array, bend, reversal_probabilities, sign_changes, switch_points
from raysl.analysis.wording import about, arm_title, count, listed, points, probability
from raysl.rng import numpy_generator

SURE = 0.95  # the probability that a claim needs
DOUBTFUL = 0.5  # no single threshold where D more likely than not changes sign twice
# For "several": stricter, since the probability is the largest over all choices of sizes. Where the
# arms do not differ at all, 0.95 called 3-7 % of studies so, 0.975 calls 1-3 %.
REVERSED = 0.975
# The share of its neighbours' parabola by which a drawn curve bends between two sizes, uniform. In
# simulated power laws with an sd of 0.1-0.3 straight lines covered 74 % where 90 % was claimed,
# these 91 %; at 3 seeds and an sd of 0.3-1 points 89 % and 92 %.
BENDS = (-0.5, 1.5)


def find_threshold(
    scores: Sequence[Score],
    *,
    arm: str | None = None,
    baseline: str | None = None,
    confidence: float = 0.90,
    seed: int = 0,
    draws: int = 20_000,
    assume_sd: float | None = None,
    unit: str = "images",
) -> Threshold:
    """The threshold of `arm` over `baseline`; ValueError where the scores cannot hold one.

    assume_sd: the sd between seeds in points, used in place of the measured one.
    """
    if not 0.5 <= confidence < 1:
        raise ValueError(f"The confidence must be from 0.5 to below 1, not {confidence}.")
    scores = check_scores(scores)
    arm, baseline = choose_arms(scores, arm, baseline)
    pair = make_pair(scores, arm, baseline)
    spread = measure_spread(pair, assume_sd)
    x, means = np.log(pair.sizes), pair.means  # [K] each
    point = _inside(x, float(switch_points(x, means[None])[0]))
    known: dict[str, Any] = {
        "arm": arm,
        "baseline": baseline,
        "unit": unit,
        "confidence": confidence,
        "sizes": (pair.sizes[0], pair.sizes[-1]),
        "num_seeds": pair.num_seeds,
        "noise": pair.noise(assume_sd),
        "point": point,
    }
    if spread is None:
        return Threshold(
            kind="undetermined",
            differences=_differences(pair.sizes, means),
            crossings=_crossings(x, means, None),
            reason=_why_no_noise(pair) + _seen(pair, means, point),
            notes=pair.notes,
            **known,
        )
    rng = numpy_generator(seed, "threshold")
    drawn = means + spread.draw(draws, rng)  # [J, K]
    switches = switch_points(*bend(x, drawn, rng.uniform(*BENDS, size=draws)))  # [J]
    masses = _masses(x, switches, drawn)
    kind = _kind(masses, point)
    differences = _differences(pair.sizes, means, drawn, spread.errors, confidence)
    notes = [spread.note, *pair.notes]
    if kind in ("always", "never"):
        notes.append(_closest(differences, confidence))
    if len(x) == 2:
        notes.append(
            "With two sizes the difference is taken to be straight in log n between them; the "
            "interval covers the noise between seeds, not a bend."
        )
    low, high = np.quantile(switches, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Threshold(
        kind=kind,
        differences=differences,
        design=spread.design,
        crossings=_crossings(x, means, drawn),
        low=_size(x, pair.sizes, float(low)),
        high=_size(x, pair.sizes, float(high)),
        masses=masses,
        reason=_why_undecided(masses, pair) + _seen(pair, means, point)
        if kind == "undetermined"
        else "",
        notes=tuple(notes),
        **known,
    )


def _masses(x: Array, switches: Array, drawn: Array) -> Masses:
    several, falls = reversal_probabilities(drawn)
    below, above = float(np.mean(switches <= x[0])), float(np.mean(switches >= x[-1]))
    return Masses(below=below, inside=1 - below - above, above=above, several=several, falls=falls)


def _kind(masses: Masses, point: float | None) -> Kind:
    if masses.several >= REVERSED or masses.falls >= REVERSED:
        return "several"
    if masses.below >= SURE:
        return "always"
    if masses.above >= SURE:
        return "never"
    if masses.inside >= SURE and masses.several < DOUBTFUL and point is not None:
        return "found"
    return "undetermined"


def _why_no_noise(pair: Pair) -> str:
    if pair.num_seeds[1] == 1:
        return (
            "each cell has one seed, so the noise between seeds is unknown (run two seeds or "
            "more, or assume an sd)"
        )
    return (
        "the repetitions of every cell agree exactly, so the noise between seeds is unknown "
        "(check that the seeds differ, or assume an sd)"
    )


def _why_undecided(masses: Masses, pair: Pair) -> str:
    if masses.inside >= SURE:
        return (
            "the difference may change sign more than once "
            f"(probability {probability(masses.several)})"
        )
    low, high = count(pair.sizes[0]), count(pair.sizes[-1])
    places = {
        f"below {low}": masses.below,
        f"between {low} and {high}": masses.inside,
        f"above {high}": masses.above,
    }
    likely = [
        f"{place} (probability {probability(mass)})"
        for place, mass in places.items()
        if mass >= 0.005
    ]
    return f"the crossing may lie {listed(likely, 'or')}"


def _seen(pair: Pair, means: Array, point: float | None) -> str:
    """What the bare means show, where the answer is undetermined."""
    if point is not None:
        return f"; the means cross at about {about(point)}"
    leader = pair.arm if means.sum() > 0 else pair.baseline
    everywhere = np.all(means > 0) or np.all(means < 0)
    return f"; in the means {arm_title(leader.name)} is ahead" if everywhere else ""


def _closest(differences: tuple[Difference, ...], confidence: float) -> str:
    closest = min(differences, key=lambda difference: abs(difference.mean))
    assert closest.low is not None
    assert closest.high is not None
    return (
        f"The smallest difference is {points(closest.mean)} points at {count(closest.size)} "
        f"({100 * confidence:g} % interval {points(closest.low)} to {points(closest.high)})."
    )


def _differences(
    sizes: tuple[float, ...],
    means: Array,
    drawn: Array | None = None,
    errors: Array | None = None,
    confidence: float = 0.90,
) -> tuple[Difference, ...]:
    if drawn is None or errors is None:
        return tuple(Difference(size=n, mean=float(m)) for n, m in zip(sizes, means, strict=True))
    lows, highs = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    farthest = np.abs((drawn - means) / errors).max(axis=1)  # [J]
    reach = np.quantile(farthest, confidence) * errors  # [K]
    return tuple(
        Difference(
            size=size,
            mean=float(means[i]),
            low=float(lows[i]),
            high=float(highs[i]),
            band_low=float(means[i] - reach[i]),
            band_high=float(means[i] + reach[i]),
        )
        for i, size in enumerate(sizes)
    )


def _crossings(x: Array, means: Array, drawn: Array | None) -> tuple[Crossing, ...]:
    found = []
    for place, before, after, upward in sign_changes(x, means):
        chance = None
        if drawn is not None:
            left, right = drawn[:, before], drawn[:, after]
            changed = (left < 0) & (right > 0) if upward else (left > 0) & (right < 0)
            chance = float(np.mean(changed))
        found.append(Crossing(size=math.exp(place), upward=upward, probability=chance))
    return tuple(found)


def _inside(x: Array, place: float) -> float | None:
    return math.exp(place) if x[0] < place < x[-1] else None


def _size(x: Array, sizes: tuple[float, ...], place: float) -> float:
    """exp(place), but exactly the end of the range where it lies there."""
    if place <= x[0]:
        return sizes[0]
    return sizes[-1] if place >= x[-1] else math.exp(place)
