"""When a search for a threshold knows enough, or cannot come to know enough for its budget.

A look happens every few trials. An interval must be narrow at two looks in a row: one that is
narrow by luck seldom stays so, and intervals selected for being narrow cover too little. That there
is no crossing needs one look: at the top of the range a second one costs as much as all before it.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from raysl.analysis.curves import Array
from raysl.analysis.verdict import SURE, Verdict, credible_tail
from raysl.analysis.wording import listed
from raysl.study.design import Designer
from raysl.study.gain import Candidate, Outcome, Table

MIN_RUNS_AT_END = 10  # before a search may end with "no crossing"
NEAR_END = math.log(2)  # "nowhere ahead" needs both arms measured within a doubling of the top
MIN_RUNS_TO_DESPAIR = 16  # before a forecast may end a search
MOST_STEPS = 400


def why_stop(
    designer: Designer,
    finished: Sequence[Outcome],
    costs: Array,
    *,
    trials_left: float = math.inf,
    cost_left: float = math.inf,
) -> str | None:
    """Why the search ends here, in a sentence; None: it goes on.

    finished: in the order of their proposing. costs: of each arm at each size [A, K];
    cost_left: in the same unit.
    """
    every = designer.design.round
    last = len(finished) - len(finished) % every
    if last < 2 * every:
        return None
    looks = [finished[: last - every], finished[:last]]
    goals = [_goals(designer, look) for look in looks]
    verdicts = designer.known(looks[1]).verdicts
    no_crossing = all(verdict.kind in ("always", "never") for verdict in verdicts)
    if None not in goals[1] and (goals[0] == goals[1] or no_crossing):
        looked = "" if no_crossing else ", at two looks in a row"
        return f"Enough is known: {listed(sorted(set(map(str, goals[1]))))}{looked}."
    if math.isinf(trials_left) and math.isinf(cost_left):
        return None
    if last - every < MIN_RUNS_TO_DESPAIR:
        return None
    if any(verdict.masses.inside < 0.5 for verdict in verdicts):
        return None  # it is about to find that there is no crossing, and needs no interval
    needs = [forecast(designer, look, costs) for look in looks]
    if all(trials > trials_left or cost > cost_left for trials, cost in needs):
        trials = needs[1][0]
        expected = f"about {trials:,} more trials" if trials < MOST_STEPS else "far more trials"
        return (
            f"The budget cannot give an interval whose ends have a ratio of "
            f"{designer.design.target_ratio:g}: that is expected to take {expected}."
        )
    return None


def _goals(designer: Designer, finished: Sequence[Outcome]) -> list[str | None]:
    """What is settled for each method at this look; None: nothing yet."""
    verdicts = designer.known(finished).verdicts
    return [
        _goal(designer, finished, arm, verdict) for arm, verdict in enumerate(verdicts, start=1)
    ]


def _goal(
    designer: Designer, finished: Sequence[Outcome], arm: int, verdict: Verdict
) -> str | None:
    both = _seeds(designer, finished, arm)  # [2, K]
    seeds = both.min(axis=0)
    measured = designer.x[seeds > 0]
    if not len(measured):
        return None
    if verdict.kind == "found" and verdict.ratio <= designer.design.target_ratio:
        place = math.log(verdict.point)
        right = min(max(int(np.searchsorted(designer.x, place)), 1), len(seeds) - 1)
        around = [_nearest_measured(seeds, right - 1, -1), _nearest_measured(seeds, right, 1)]
        inside = math.exp(measured[0]) <= verdict.low and verdict.high <= math.exp(measured[-1])
        if inside and min(around) >= 2:
            return f"the interval's ends have a ratio of at most {designer.design.target_ratio:g}"
    enough = len(finished) >= MIN_RUNS_AT_END
    if verdict.kind == "always" and enough:
        return "there is no crossing, the arm is ahead everywhere"
    near = designer.x > designer.x[-1] - NEAR_END
    if verdict.kind == "never" and enough and both[:, near].any(axis=1).all():
        return "there is no crossing, the arm is ahead nowhere"
    if verdict.kind == "several" and max(verdict.masses.several, verdict.masses.falls) >= SURE:
        return "the difference changes sign otherwise than once upwards"
    return None


def _seeds(designer: Designer, finished: Sequence[Outcome], arm: int) -> Array:
    """Finished trials of the baseline and of the arm at each size [2, K]."""
    counts = np.zeros((2, len(designer.x)))
    for o in finished:
        if o.value is not None and o.candidate.arm in (0, arm):
            row = counts[int(o.candidate.arm != 0)]
            row[slice(None) if o.candidate.size is None else o.candidate.size] += 1
    return counts


def _nearest_measured(seeds: Array, start: int, step: int) -> float:
    """The number of seeds at the nearest size with any, from `start` on in one direction."""
    while 0 <= start < len(seeds):
        if seeds[start] > 0:
            return float(seeds[start])
        start += step
    return 0.0


def forecast(designer: Designer, finished: Sequence[Outcome], costs: Array) -> tuple[int, float]:
    """(trials, cost) until the intervals reach the target, if all goes as expected.

    Greedy, by downdates alone, so no result is imagined; `MOST_STEPS` trials mean: not soon.
    """
    known = designer.known(finished)
    cells = [
        Candidate(arm, size, 0)
        for arm, flat in enumerate(designer.flat)
        for size in ([None] if flat else range(len(designer.x)))
    ]
    table = Table(known, cells, fresh=True, seed=designer.design.seed)
    z = stats.norm.isf(credible_tail(0.90))
    target = (math.log(designer.design.target_ratio) / (2 * z)) ** 2
    cost = np.array([costs[c.arm, c.size or 0] for c in cells])
    spent, trials = 0.0, 0
    while trials < MOST_STEPS and table.variances.max() > target:
        gains = table.gains()
        best = int(np.argmax(gains / cost**designer.design.cost_power))
        if gains[best] <= 0:
            return MOST_STEPS, math.inf
        table.measure(best)
        spent, trials = spent + float(cost[best]), trials + 1
    return trials, spent
