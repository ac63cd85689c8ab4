"""What speaks against a set of scores: wrong units, too few sizes, missing cells, a stuck metric.

`check_...` raise a sentence where no answer is possible; `notes_on` and `missing_cells` return
sentences that stand beside an answer.
"""

from collections.abc import Sequence

from raysl.analysis.scores import FEW, Score
from raysl.analysis.wording import arm_title, count, listed

PERCENTS = 10.0  # points: an accuracy above this is certainly no fraction
APART = 5.0  # points: seeds of one cell seldom differ by more
# Percents that a collapsed trial reaches exactly, at 1000 and 200 balanced classes.
CHANCES = (0.1, 0.5)
NAMED = 5  # cells in a sentence; the rest is a number


def check_units(scores: Sequence[Score], *, point: float = 1.0) -> None:
    """Refuse percent given as fractions: in all rows, or in single rows among percents.

    A single row is refused only where 100 times its value falls among its neighbours', to within 5
    points: the other seeds of its cell, or else of the arm's next smaller and larger size; all of
    these above 10. So a true 0.8 % beside 1 to 5 %, at the start of a curve that climbs to 80 %, or
    of a trial that collapsed, stands. An arm of nothing but fractions could be at chance:
    `notes_on` remarks it. Values above 100 or below 0 are another metric's, and stand too.

    point: the size of a point in units of the metric; other than 1 it says what the units are.
    """
    if point != 1:
        return
    if all(0 <= s.value <= 1 for s in scores) and len({s.value for s in scores}) > 1:
        top = max(scores, key=lambda score: score.value)
        raise ValueError(
            f"All values lie between 0 and 1 ({top.where or str(top)}: {top.value:g}): accuracies "
            "are read in percent; multiply them by 100, or for a metric that is no accuracy name "
            "the size of a point with --point 0.01."
        )
    strays = [score for score in scores if _is_stray_fraction(score, scores)]
    if strays:
        first, *rest = strays
        text = str(first)
        more = f" ({len(rest)} more such rows)" if rest else ""
        raise ValueError(
            f"{text[0].upper()}{text[1:]}: {first.value:g} looks like a fraction among percents; "
            f"write {100 * first.value:.10g}{more}."
        )


def check_sizes(scores: Sequence[Score], arm: str, baseline: str) -> tuple[float, ...]:
    """The sizes that both arms have, increasing; ValueError where there are fewer than two.

    A flat arm has every size of the other.
    """
    sizes = {
        name: {s.size for s in scores if s.arm == name and s.size is not None}
        for name in (arm, baseline)
    }
    flat = {s.arm for s in scores if s.size is None}
    title, other = arm_title(arm), arm_title(baseline)
    if {arm, baseline} <= flat:
        raise ValueError(
            f"Neither {title} nor {other} depends on the size, so there is no threshold in it; "
            "give the rows of one of them their sizes."
        )
    grid = sizes[arm] | sizes[baseline]
    absent = {name: set() if name in flat else grid - own for name, own in sizes.items()}
    shared = sorted(grid - absent[arm] - absent[baseline])
    if len(shared) < 2:
        has = f"only {count(shared[0])}" if shared else "none"
        lacks = [
            f"{arm_title(name)} lacks {_first_few([count(n) for n in sorted(missing)])}"
            for name, missing in absent.items()
            if missing
        ]
        fix = f"{listed(lacks)}, so add such a cell" if lacks else "add the rows of another size"
        raise ValueError(
            f"A threshold needs at least two sizes that {title} and {other} both have; there is "
            f"{has}: {fix}."
        )
    return tuple(shared)


def missing_cells(scores: Sequence[Score], arm: str, baseline: str) -> list[str]:
    """Notes on cells that one arm has and the other lacks, and on cells with a single seed.

    Numbers of seeds that differ are what an adaptive design has, so they are remarked only where
    one cell has a single seed and another has more.
    """
    cells: dict[tuple[str, float | None], list[int]] = {}  # (arm, size) -> seeds
    for score in scores:
        if score.arm in (arm, baseline):
            cells.setdefault((score.arm, score.size), []).append(score.seed)
    absent = []
    if all(size is not None for _, size in cells):  # a flat arm has every size
        for (name, size), seeds in cells.items():
            other = baseline if name == arm else arm
            if (other, size) not in cells:
                absent.append(f"{_cell(other, size)} ({_seeds(seeds)})")
    most = max(map(len, cells.values()), default=0)
    single = [_cell(*key) for key, seeds in cells.items() if len(seeds) == 1 < most]
    notes = []
    if absent:
        notes.append(f"Missing cells, which the other arm has: {_first_few(absent)}.")
    if single:
        notes.append(f"A single seed, where other cells have up to {most}: {_first_few(single)}.")
    return notes


def notes_on(scores: Sequence[Score]) -> list[str]:
    """Notes on arms whose metric never moves, or looks like fractions beside percents."""
    values: dict[str, list[float]] = {}
    for score in scores:
        values.setdefault(score.arm, []).append(score.value)
    notes = []
    for arm, own in sorted(values.items()):
        if len(own) >= FEW and len(set(own)) == 1:
            notes.append(
                f"All {len(own)} values of {arm_title(arm)} are {own[0]:g}; check its rows, unless "
                "its trials collapsed."
            )
        others = [value for name, found in values.items() if name != arm for value in found]
        if all(0 < value < 1 for value in own) and others and min(others) > PERCENTS:
            notes.append(
                f"All values of {arm_title(arm)} lie between 0 and 1 and all others above "
                f"{PERCENTS:g}; if they are fractions, multiply them by 100."
            )
    return notes


def _is_stray_fraction(score: Score, scores: Sequence[Score]) -> bool:
    if not 0 < score.value < 1 or score.value in CHANCES:
        return False
    peers = [s for s in scores if s.arm == score.arm and s.value > 1]
    around = [s.value for s in peers if s.size == score.size]
    if not around and score.size is not None:
        sizes = [s.size for s in peers if s.size is not None]
        below = max((n for n in sizes if n < score.size), default=None)
        above = min((n for n in sizes if n > score.size), default=None)
        if below is not None:  # at the smallest size a curve may begin below 1
            around = [s.value for s in peers if s.size in (below, above)]
    return (
        bool(around)
        and min(around) > PERCENTS
        and min(around) - APART <= 100 * score.value <= max(around) + APART
    )


def _cell(arm: str, size: float | None) -> str:
    return f"{arm_title(arm)} at {'any size' if size is None else f'size {count(size)}'}"


def _seeds(seeds: Sequence[int]) -> str:
    """ "seed 0", "seeds 1 and 4", "seeds 0 to 7"."""
    first, last = min(seeds), max(seeds)
    if len(seeds) == 1:
        return f"seed {first}"
    if len(seeds) > 2 and last - first == len(seeds) - 1:
        return f"seeds {first} to {last}"
    return f"seeds {_first_few([str(seed) for seed in sorted(seeds)])}"


def _first_few(texts: Sequence[str]) -> str:
    if len(texts) <= NAMED:
        return listed(texts)
    return f"{', '.join(texts[:NAMED])} and {len(texts) - NAMED} more"
