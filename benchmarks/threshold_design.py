"""How the search for a threshold compares with grids and other searches, in simulated worlds.

    python benchmarks/threshold_design.py --first 60000 --num 400 --kinds single,none

prints, for each kind of world: the median and 90th percentile of the relative error of n*, how
often the reported interval of a nominal 90 % holds it, the claims, compute in full grids (8 sizes
with 3 seeds in both arms = 1.00) and runs; 90 % bands from a bootstrap over the studies. A kind may
name a variant: "single:outliers". About a second of one core a study.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import numpy as np
from grids import power_laws, practice
from ours import strategy as ours
from outcomes import Outcome
from searches import bisection, straddle
from worlds import SIZES, World, make_world, make_worlds

from raysl.provenance import commit
from raysl.study.design import Design, Designer
from raysl.study.gain import Candidate
from raysl.study.gain import Outcome as Finished

BUDGETS = (0.15, 0.2, 0.25, 1 / 3, 0.5)  # of single crossings, each a search of its own
KINDS = "single,none,misspecified,double,single:outliers,single:correlated pairs"
REPLICATES = 1000
Column = list[Outcome]
Strategy = Callable[[World], Outcome]
# What ours is compared with; the two searches get the budget in their name.
STRATEGIES: dict[str, Strategy] = {
    "grid, practice": practice,
    "grid, power laws": power_laws,
    "bisection at 0.33": partial(bisection, budget=1 / 3),
    "straddle at 0.33": partial(straddle, budget=1 / 3),
}


def compared(worlds: list[World], budgets: tuple[float, ...]) -> dict[str, Column]:
    """What each strategy answers in each world, ours with each budget."""
    found: dict[str, Column] = {}
    for name, strategy in STRATEGIES.items():
        found[name] = [strategy(world) for world in worlds]
    for budget in budgets:
        found[f"ours at {budget:.2f}"] = [ours(world, budget) for world in worlds]
    found["ours, stopping rule"] = [ours(world, 0.5, stop=True) for world in worlds]
    return found


def table(worlds: list[World], found: dict[str, Column]) -> list[str]:
    """One line a strategy, medians and coverage with their bands."""
    truths = np.array([world.truth[0] or np.nan for world in worlds])
    rng = np.random.default_rng(0)
    lines = [
        f"{'strategy':20}{'median error (band)':>26}{'90th pct':>10}{'coverage (band)':>24}"
        f"{'compute':>9}{'runs':>7}  claims"
    ]
    for name, column in found.items():
        line = f"{name:20}"
        if np.isnan(truths).any():
            line += f"{'-':>26}{'-':>10}{'-':>24}"
        else:
            error = relative_errors(column, truths)
            low = np.array([outcome.low for outcome in column]) * 0.9999
            high = np.array([outcome.high for outcome in column]) * 1.0001
            held = ((low <= truths) & (truths <= high)).astype(float)
            line += f"{with_band(error, np.median, rng):>26}{np.quantile(error, 0.9):>10.1%}"
            line += f"{with_band(held, np.mean, rng):>24}"
        line += (
            f"{np.mean([o.cost for o in column]):>9.3f}{np.mean([o.runs for o in column]):>7.1f}"
        )
        claims = Counter(outcome.claim for outcome in column)
        shares = [f"{claim} {count / len(column):.1%}" for claim, count in claims.most_common()]
        lines.append(f"{line}  {', '.join(shares)}")
    return lines


def relative_errors(column: Column, truths: np.ndarray) -> np.ndarray:
    return np.abs(np.array([outcome.point for outcome in column]) / truths - 1)


def with_band(
    values: np.ndarray, statistic: Callable[..., np.ndarray], rng: np.random.Generator
) -> str:
    """A statistic of the studies [N] with its 90 % band."""
    drawn = values[rng.integers(len(values), size=(REPLICATES, len(values)))]
    low, high = np.quantile(statistic(drawn, axis=1), [0.05, 0.95])
    return f"{statistic(values, axis=0):.1%} ({low:.1%}-{high:.1%})"


def equal_compute(worlds: list[World], found: dict[str, Column]) -> str:
    """The compute at which our median error is that of the full grid read by power laws."""
    truths = np.array([world.truth[0] for world in worlds], dtype=float)
    grid = relative_errors(found["grid, power laws"], truths)
    columns = [found[f"ours at {budget:.2f}"] for budget in BUDGETS]
    errors = np.array([relative_errors(column, truths) for column in columns])  # [B, N]
    costs = np.array([[outcome.cost for outcome in column] for column in columns])  # [B, N]
    rng = np.random.default_rng(0)
    at = [meets(grid, errors, costs)]
    for _ in range(REPLICATES):
        chosen = rng.integers(len(worlds), size=len(worlds))
        at.append(meets(grid[chosen], errors[:, chosen], costs[:, chosen]))
    low, middle, high = np.quantile(at[1:], [0.05, 0.5, 0.95], method="nearest")
    return (
        f"Our median error equals the grid's {np.median(grid):.1%} at {at[0]:.2f} of its compute "
        f"(bootstrap over studies: median {middle:.2f}, 90 % band {low:.2f}-{high:.2f}; "
        f"inf: not within {BUDGETS[-1]})."
    )


def meets(grid: np.ndarray, errors: np.ndarray, costs: np.ndarray) -> float:
    """The mean compute from which on the median error stays at or below the grid's.

    Between two budgets the logarithm of the error is taken as a straight line in that of compute.
    """
    goal = np.log(np.median(grid))
    level = np.log(np.median(errors, axis=1))
    # a search only gains by spending more, so a rise between budgets is noise
    level = np.minimum.accumulate(level)
    cost = np.log(costs.mean(axis=1))
    (below,) = np.nonzero(level <= goal)
    if not len(below):
        return float("inf")
    k = int(below[0])
    if k == 0:
        return float(np.exp(cost[0]))
    share = (level[k - 1] - goal) / (level[k - 1] - level[k])
    return float(np.exp(cost[k - 1] + share * (cost[k] - cost[k - 1])))


def asking_time(number: int) -> str:
    """How long one ask takes with 60 finished runs, the fit included."""
    world = make_world("single", number)
    costs = world.cost + 1000.0
    trials = [Candidate(arm, size, seed) for seed in (0, 1) for size in range(15) for arm in (0, 1)]
    finished = [Finished(c, world.run(c.arm, c.size, c.seed)) for c in trials]
    taken = []
    for _ in range(20):
        designer = Designer(SIZES, [False, False], Design())
        start = time.process_time()
        designer.choose(finished, [], costs)
        taken.append(time.process_time() - start)
    return f"One ask with 15 sizes, 2 arms, 60 runs: {1000 * np.median(taken):.0f} ms of one core."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=60_000, help="number of the first world")
    parser.add_argument("--num", type=int, default=400, help="worlds of each kind")
    parser.add_argument("--kinds", default=KINDS, help="separated by commas, kind or kind:variant")
    arguments = parser.parse_args()
    print(f"python {' '.join(sys.argv)}   at commit {commit()}")
    print(asking_time(arguments.first))
    for kind in arguments.kinds.split(","):
        name, _, variant = kind.partition(":")
        worlds = list(
            make_worlds(name, arguments.num, first=arguments.first, variant=variant or "plain")
        )
        found = compared(worlds, BUDGETS if kind == "single" else (1 / 3,))
        print(f"\n{kind}, {arguments.num} worlds from {arguments.first} on")
        print("\n".join(table(worlds, found)))
        if kind == "single":
            print(equal_compute(worlds, found), flush=True)


if __name__ == "__main__":
    main()
