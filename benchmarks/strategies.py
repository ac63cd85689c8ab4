"""The strategies that a threshold design is compared with, each a function of a world.

Compute is in full grids (8 sizes x 3 seeds x 2 arms = 1.00). The grids are fixed; the two searches
get the budget in their name.
"""

from collections.abc import Callable
from functools import partial

from grids import WIDE, WINDOW, interpolated, power_laws, practice
from outcomes import Outcome
from searches import bisection, straddle
from worlds import World

Strategy = Callable[[World], Outcome]

STRATEGIES: dict[str, Strategy] = {
    "window of 4 sizes, practice": partial(practice, sizes=WINDOW, num_seeds=1),
    "4 sizes over the range, practice": partial(practice, sizes=WIDE, num_seeds=1),
    "grid of 1 seed, practice": partial(practice, num_seeds=1),
    "grid of 1 seed, power laws": partial(power_laws, num_seeds=1),
    "grid, practice": practice,
    "grid, interpolation + bootstrap": interpolated,
    "grid, power laws": power_laws,
    "bisection at 0.2": partial(bisection, budget=0.2),
    "bisection at 0.33": partial(bisection, budget=1 / 3),
    "straddle at 0.2": partial(straddle, budget=0.2),
    "straddle at 0.33": partial(straddle, budget=1 / 3),
}
