"""How many runs an interval of a given width will need, before they are paid for.

Near the crossing n* the difference of two arms is straight in log n: D = s (log n - log n*). With
m pairs of trials there, each with seed noise of sd `sigma` in both arms, D is known to
sigma sqrt(2/m) and log n* to that over s. A 90 % interval with half-width h in log n, so with ends
of ratio exp(2h), needs m = 2 (z sigma / (s h))^2 pairs: 131 (sigma/s)^2 for a ratio of 1.5. A weak
slope cannot be bought off.
"""

import math

from raysl.analysis.wording import arm_title, count

Z = 1.645  # of a 90 % interval
RATIO = 1.5  # upper end over lower end


def pairs_needed(sd: float, slope: float, *, ratio: float = RATIO) -> float:
    """Pairs of trials near the crossing for a 90 % interval whose ends have this ratio.

    sd: between the seeds of one cell, in points. slope: of the difference of the arms, in points
    per e-fold of the size, either sign; 0 needs infinitely many.
    """
    if not (sd >= 0 and math.isfinite(sd)):
        raise ValueError(f"The seed sd must be a number from 0 up, not {sd:g}.")
    if not math.isfinite(slope):
        raise ValueError(f"The slope must be a finite number, not {slope:g}.")
    if not ratio > 1:
        raise ValueError(f"The ratio of an interval's ends must be above 1, not {ratio:g}.")
    if slope == 0:
        return math.inf
    half_width = math.log(ratio) / 2
    return 2 * (Z * sd / (slope * half_width)) ** 2


def runs_needed(pairs: float, *, arm_runs: int = 0, baseline_runs: int = 0) -> int:
    """Runs that complete this many pairs, with the runs near the crossing that are there already.

    A baseline that does not depend on the size is run once a seed, wherever the crossing is: all
    its runs are near.
    """
    whole = math.ceil(pairs)
    return max(0, whole - arm_runs) + max(0, whole - baseline_runs)


def forecast_text(
    *,
    arm: str,
    baseline: str,
    sd: float,
    slope: float | None,
    ratio: float = RATIO,
    flat_baseline: bool = False,
    arm_runs: int = 0,
    baseline_runs: int = 0,
) -> str:
    """The forecast in words: runs still needed for an interval of this ratio, or that none will do.

    slope: of the difference in points per doubling of the size; None where it is unknown.
    flat_baseline: it does not depend on the size. arm_runs, baseline_runs: done near the crossing.
    """
    noise = f"seed noise {sd:g} points"
    goal = f"a ratio of {ratio:g} between the ends of the 90 % interval"
    if slope is None:
        return (
            f"With {noise} and a slope of the difference that is not known, no number of runs "
            f"would be sure to give {goal}: the flatter the difference, the more it takes."
        )
    # A straight line in log2 n rises by `slope` a doubling, so by slope / ln 2 an e-fold.
    pairs = pairs_needed(sd, slope / math.log(2), ratio=ratio)
    start = f"With {noise} and a slope of {slope:g} points per doubling"
    if math.isinf(pairs):
        return (
            f"{start}, no number of runs would give {goal}: where the difference does not change "
            "with the size there is no crossing to find."
        )
    runs = runs_needed(pairs, arm_runs=arm_runs, baseline_runs=baseline_runs)
    whole = math.ceil(pairs)
    arm, baseline = arm_title(arm), arm_title(baseline)
    if flat_baseline:
        needed = f"{count(whole)} of {arm} near the crossing and {count(whole)} of {baseline}"
        needed += ", one a seed, since it does not depend on the size"
    else:
        needed = f"{count(whole)} {'pair' if whole == 1 else 'pairs'} of {arm} and {baseline}"
        needed += " near the crossing"
    done = ""
    if arm_runs or baseline_runs:
        done = f"; {arm_runs} of {arm} and {baseline_runs} of {baseline} are done"
    return (
        f"{start}, expect about {count(runs)} more {'run' if runs == 1 else 'runs'} for {goal}: "
        f"{needed}{done}."
    )
