"""Where an arm starts to pay in two sizes: the pool size from which it does, by label size.

All trials of the grid are read together as one smooth difference surface (`surface`), drawn from
its posterior. In every draw and at every label size the best single switch point in pool size
(`switch`) is where the arm starts to pay: their median is the frontier, their quantiles its band.
Nothing is claimed outside the sizes of the grid: a band that reaches an end is open there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysl.analysis.frontier_answer import Frontier, FrontierPoint, GridCell, LinePoint
from raysl.analysis.levels import group_cells, pooled_noise
from raysl.analysis.scores import Score, check_scores, scores_from_results
from raysl.analysis.surface import Trials, draw_surfaces
from raysl.analysis.switch import Array, switch_points
from raysl.analysis.verdict import Verdict, credible_tail, judge
from raysl.analysis.wording import arm_title
from raysl.rng import numpy_generator

NUM_KNOTS = 31  # pool sizes at which a surface is drawn, evenly in log
LINE_STEPS = 6  # of the frontier's line from one label size to the next

Cells = Mapping[tuple[str, float, float | None], Sequence[Score]]  # arm, label size, pool size


def scores_by_label_size(
    table: Any, *, metric: str, with_collapsed: bool = True
) -> dict[float, list[Score]]:
    """Label size -> its scores by pool size, from a results table with both sizes."""
    sizes = {row["label_size"] for row in table.select(["label_size"]).to_pylist()} - {None}
    return {
        float(size): scores_from_results(
            table,
            metric=metric,
            where={"label_size": size},
            with_collapsed=with_collapsed,
        )
        for size in sorted(sizes)
    }


def find_frontier(
    rows: Mapping[float, Sequence[Score]],
    *,
    arm: str,
    baseline: str,
    margin: float = 0.0,
    confidence: float = 0.90,
    seed: int = 0,
    draws: int = 4000,
) -> Frontier:
    """The frontier of `arm` over `baseline`; ValueError where the scores cannot hold one.

    rows: label size -> scores whose size is the pool size; None: at every pool size.
    """
    cells = _cells(rows, arm, baseline)
    pool_sizes = sorted({pool for name, _, pool in cells if name == arm and pool is not None})
    label_sizes = sorted({label for _, label, _ in cells})
    if len(pool_sizes) < 2 or len(label_sizes) < 2:
        raise ValueError(
            f"A frontier needs two pool sizes and two label sizes with {arm_title(arm)} and "
            f"{arm_title(baseline)}; there are {len(pool_sizes)} and {len(label_sizes)}."
        )
    noise = pooled_noise([[score.value for score in cell] for cell in cells.values()])
    if noise.sd is None:
        raise ValueError(
            "A frontier needs the noise between seeds, and no cell has two seeds that differ; run "
            "at least two."
        )
    x, y = np.log(pool_sizes), np.log(label_sizes)
    knots = np.linspace(x[0], x[-1], NUM_KNOTS)
    steps = np.arange(LINE_STEPS * (len(y) - 1) + 1) / LINE_STEPS
    places = np.interp(steps, np.arange(len(y)), y)  # every LINE_STEPS-th is a label size
    surfaces = draw_surfaces(
        _trials(cells, arm, x, y),
        pool=_scaled(knots, x),
        label=_scaled(places, y),
        noise=noise.sd,
        draws=draws,
        rng=numpy_generator(seed, "frontier"),
    )
    surfaces -= margin
    switches = np.stack(
        [switch_points(knots, surfaces[:, i]) for i in range(len(places))], axis=1
    )  # [J, L]
    tail = credible_tail(confidence)
    tails = [0.5, tail, 1 - tail]
    bands = _sizes(np.quantile(switches, tails, axis=0).T, x, pool_sizes)  # [L, 3]
    return Frontier(
        arm=arm,
        baseline=baseline,
        confidence=confidence,
        margin=margin,
        pool_sizes=tuple(pool_sizes),
        label_sizes=tuple(label_sizes),
        cells=_grid_cells(cells, arm, baseline),
        points=tuple(
            _point(label, bands[i], judge(knots, surfaces[:, i], confidence=confidence), pool_sizes)
            for label, i in zip(label_sizes, range(0, len(places), LINE_STEPS), strict=True)
        ),
        line=tuple(
            LinePoint(label_size=float(np.exp(place)), point=band[0], low=band[1], high=band[2])
            for place, band in zip(places, bands.tolist(), strict=True)
        ),
        noise=noise,
    )


def _cells(rows: Mapping[float, Sequence[Score]], arm: str, baseline: str) -> Cells:
    """The cells in which both arms have scores; a baseline without a pool size meets every one."""
    found: dict[tuple[str, float, float | None], Sequence[Score]] = {}
    for label, scores in rows.items():
        cells = group_cells(check_scores(scores))
        pools = {pool for name, pool in cells if name == arm and pool is not None}
        bases = {pool for name, pool in cells if name == baseline}
        both = pools if None in bases else pools & bases
        for (name, pool), cell in cells.items():
            if both and (
                (name == arm and pool in both) or (name == baseline and pool in {None} | both)
            ):
                found[name, label, pool] = cell
    return found


def _trials(cells: Cells, arm: str, x: Array, y: Array) -> Trials:
    entries = [
        (name == arm, x[0] if pool is None else np.log(pool), np.log(label), s.seed, s.value)
        for (name, label, pool), cell in cells.items()
        for s in cell
    ]
    is_arm, pools, labels, seeds, values = (
        np.array(column) for column in zip(*entries, strict=True)
    )
    return Trials(
        is_arm=is_arm,
        pool=_scaled(pools, x),
        label=_scaled(labels, y),
        seed=seeds,
        value=values,
    )


def _grid_cells(cells: Cells, arm: str, baseline: str) -> tuple[GridCell, ...]:
    found = []
    for (name, label, pool), cell in sorted(cells.items(), key=lambda item: str(item[0])):
        if name == arm:
            assert pool is not None
            base = cells.get((baseline, label, None)) or cells[baseline, label, pool]
            means = [float(np.mean([score.value for score in s])) for s in (cell, base)]
            found.append(
                GridCell(
                    label_size=label,
                    pool_size=pool,
                    mean=means[0] - means[1],
                    num_seeds=(len(cell), len(base)),
                )
            )
    return tuple(sorted(found, key=lambda c: (c.label_size, c.pool_size)))


def _point(label: float, band: Array, verdict: Verdict, ends: Sequence[float]) -> FrontierPoint:
    point, low, high = band.tolist()
    return FrontierPoint(
        label_size=label,
        kind=verdict.kind,
        point=point if ends[0] < point < ends[-1] else None,
        low=low,
        high=high,
        masses=verdict.masses,
    )


def _scaled(values: Array, ends: Array) -> Array:
    """Logs of sizes scaled so that the ends of the grid are -1 and 1."""
    return 2 * (values - ends[0]) / (ends[-1] - ends[0]) - 1


def _sizes(places: Array, x: Array, sizes: Sequence[float]) -> Array:
    """exp(places), but exactly the end of the grid where a place lies there."""
    inside = np.where(places <= x[0], sizes[0], np.exp(places))
    return np.where(places >= x[-1], sizes[-1], inside)
