"""How far the switch point depends on the curve family, and which families the sizes support.

Families (`families`) are judged by the log density of a size that they have not seen: fitted to the
other sizes of an arm, a family predicts the mean of the left-out cell with the noise of that mean
and its own uncertainty. Never by AIC: 4 to 8 sizes are too few. Leaving out an arm's smallest or
largest size tests extrapolation and is also reported apart.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from raysl.analysis.families import FAMILIES, Cells, best_curve
from raysl.analysis.levels import Noise, group_cells, pooled_noise
from raysl.analysis.scores import Score, check_scores, choose_arms
from raysl.analysis.switch import Array, switch_points
from raysl.analysis.wording import arm_title, count, limits, listed

MIN_SIZES = 4  # with one left out a curve still needs three
LARGE_MISS = 2.0  # predictive sd; above it an extrapolation is not to be trusted
KEPT = 2.0  # standard errors of the best log score by which a plausible model may lie behind


@dataclass(frozen=True, kw_only=True)
class ModelScore:
    """How well one family predicts left-out sizes, and where it puts the switch point.

    log_score: log density of the left-out means in points, summed over arms and sizes; `interior`
        and `ends` are its two parts. standard_error: of the sum, over the left-out sizes.
    largest_miss: the predictive sds by which the forecast of an arm's largest size misses it; the
        worse arm's.
    switch: None where the two curves do not cross upwards; `ahead` then says where the arm is.
    """

    name: str
    log_score: float
    standard_error: float
    interior: float
    ends: float
    largest_miss: float
    switch: float | None
    ahead: Literal["everywhere", "nowhere"] | None
    plausible: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """The families by their log score, best first; none where a `reason` forbids comparing them.

    sizes: the smallest and largest that both arms have. largest_miss: the power law's, since it is
    the power law that is continued beyond the sizes.
    """

    arm: str
    baseline: str
    sizes: tuple[float, float] | None = None
    models: tuple[ModelScore, ...] = ()
    largest_miss: float | None = None
    reason: str = ""

    @property
    def plausible(self) -> tuple[ModelScore, ...]:
        return tuple(model for model in self.models if model.plausible)

    @property
    def model_uncertainty(self) -> tuple[float, float] | None:
        """The smallest and largest n* over the plausible models that have one."""
        found = [model.switch for model in self.plausible if model.switch is not None]
        return (min(found), max(found)) if found else None

    def sentence(self) -> str:
        """What the choice of the curve family does to n*."""
        if self.sizes is None:
            return f"Curve families are not compared, because {self.reason}."
        names = listed(model.name for model in self.plausible)
        between = f"between {count(self.sizes[0])} and {count(self.sizes[1])}"
        if len(self.plausible) > 1:
            text = f"Over the {len(self.plausible)} models that predict left-out sizes about "
            text += f"equally well ({names}) n* "
        else:
            text = f"Of {len(self.models)} models one ({names}) predicts left-out sizes clearly "
            text += "best; by it n* "
        if self.model_uncertainty is None:
            text += f"does not lie {between}"
        else:
            low, high = limits(*self.model_uncertainty, self.sizes)
            text += f"is about {low}" if low == high else f"lies between {low} and {high}"
        for where in ("everywhere", "nowhere"):
            if found := [model.name for model in self.plausible if model.ahead == where]:
                text += f"; by {listed(found)} {arm_title(self.arm)} is ahead {where} {between}"
        return f"{text}."

    def warning(self) -> str:
        """Why the curves should not be continued beyond the sizes; empty if nothing says so."""
        if self.largest_miss is None or self.largest_miss <= LARGE_MISS:
            return ""
        return (
            "A power law through the smaller sizes misses the largest by "
            f"{self.largest_miss:.1f} of its predictive sds: do not trust any extrapolation."
        )


def compare_models(
    scores: Sequence[Score],
    *,
    arm: str,
    baseline: str,
    sd: float | None = None,
    point: float = 1.0,
) -> ModelComparison:
    """Five curve families by how they predict left-out sizes, with n* under each.

    A flat arm is the same constant in all of them. Higher scores are better.

    sd: between seeds, in the metric's unit; None: pooled over the cells of both arms.
    point: one point in the metric's unit, 1 for per cent and 0.01 for fractions.
    """
    arm, baseline = choose_arms(scores, arm, baseline)
    groups = group_cells(s for s in check_scores(scores) if s.arm in (arm, baseline))
    noise = pooled_noise([[s.value for s in cell] for cell in groups.values()], assume_sd=sd)
    sizes = {
        name: [size for found, size in groups if found == name and size is not None]
        for name in (arm, baseline)
    }
    sized = [name for name in sizes if sizes[name]]
    common = sorted(set.intersection(*(set(sizes[name]) for name in sized))) if sized else []
    if reason := _why_not(sizes, common, noise):
        return ModelComparison(arm=arm, baseline=baseline, reason=reason)
    assert noise.sd is not None
    grid = np.linspace(math.log(common[0]), math.log(common[-1]), 201)
    middles = {name: math.log(sizes[name][0] * sizes[name][-1]) / 2 for name in sized}
    levels = {cell: np.mean([s.value for s in group]) / point for cell, group in groups.items()}
    cells = {
        name: Cells(
            x=np.log(sizes[name]) - middles[name],
            mean=np.array([levels[name, size] for size in sizes[name]]),
            variance=(noise.sd / point) ** 2
            / np.array([len(groups[name, size]) for size in sizes[name]]),
            half=math.log(sizes[name][-1] / sizes[name][0]) / 2,
        )
        for name in sized
    }
    models = []
    for family in FAMILIES:
        arm_curve, baseline_curve = (
            best_curve(family, cells[name], grid - middles[name])
            if name in sized
            else np.full_like(grid, levels[name, None])
            for name in (arm, baseline)
        )
        switch = float(switch_points(grid, (arm_curve - baseline_curve)[None])[0])
        left_out = {name: leave_one_out(family, cells[name], noise.df) for name in sized}
        models.append(_score(family, sizes, left_out, switch, grid))
    models.sort(key=lambda model: -model.log_score)
    worst = models[0].log_score - KEPT * models[0].standard_error
    return ModelComparison(
        arm=arm,
        baseline=baseline,
        sizes=(common[0], common[-1]),
        models=tuple(replace(model, plausible=model.log_score >= worst) for model in models),
        largest_miss=next(model.largest_miss for model in models if model.name == "power law"),
    )


def leave_one_out(family: str, cells: Cells, df: int) -> tuple[Array, Array]:
    """Log density and distance in predictive sds of each mean [K], forecast from the others.

    df: degrees of freedom of the noise; where it was measured Student's t replaces the normal.
    """
    log_density, miss = np.zeros_like(cells.x), np.zeros_like(cells.x)
    for i, (x, mean, variance) in enumerate(zip(cells.x, cells.mean, cells.variance, strict=True)):
        others = np.arange(len(cells.x)) != i
        rest = replace(
            cells, x=cells.x[others], mean=cells.mean[others], variance=cells.variance[others]
        )
        forecast = FAMILIES[family](rest, np.array([x]))
        weights, means = forecast.log_weights, forecast.means[:, 0]  # [G] each
        variances = forecast.variances[:, 0] + variance
        z = (mean - means) / np.sqrt(variances)
        density = stats.t.logpdf(z, df) if df else stats.norm.logpdf(z)
        log_density[i] = logsumexp(weights + density - np.log(variances) / 2)
        miss[i] = abs(mean - forecast.mean[0]) / math.sqrt(forecast.variance[0] + variance)
    return log_density, miss


def _score(
    family: str,
    sizes: Mapping[str, Sequence[float]],
    left_out: Mapping[str, tuple[Array, Array]],
    switch: float,
    grid: Array,
) -> ModelScore:
    by_size: dict[float, float] = {}
    for name, (log_density, _) in left_out.items():
        for size, value in zip(sizes[name], log_density, strict=True):
            by_size[size] = by_size.get(size, 0.0) + float(value)
    totals = np.array(list(by_size.values()))
    ends = sum(float(density[0] + density[-1]) for density, _ in left_out.values())
    inside = grid[0] < switch < grid[-1]
    return ModelScore(
        name=family,
        log_score=float(totals.sum()),
        standard_error=math.sqrt(len(totals)) * float(totals.std(ddof=1)),
        interior=float(totals.sum()) - ends,
        ends=ends,
        largest_miss=max(float(miss[-1]) for _, miss in left_out.values()),
        switch=math.exp(switch) if inside else None,
        ahead=None if inside else ("everywhere" if switch <= grid[0] else "nowhere"),
    )


def _why_not(sizes: Mapping[str, Sequence[float]], common: Sequence[float], noise: Noise) -> str:
    for name, found in sizes.items():
        if 0 < len(found) < MIN_SIZES:
            return (
                f"{arm_title(name)} has {len(found)} size{'s' if len(found) > 1 else ''} and "
                f"leaving one out takes at least {MIN_SIZES}"
            )
    if not any(sizes.values()):
        return "neither arm depends on the size"
    if len(common) < 2:
        return "the arms have fewer than two sizes in common"
    if noise.sd is None:
        return "the noise between seeds is unknown (run two seeds or more, or assume an sd)"
    return ""
