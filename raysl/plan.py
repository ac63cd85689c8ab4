"""What `raysl plan` prints: every cell, what it all costs, how many runs an answer will need."""

from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table

from raysl.analysis.forecast import forecast_text
from raysl.analysis.wording import arm_title
from raysl.cpus import multiplies_bfloat16, usable_cpus
from raysl.data.images import Splits
from raysl.data.store import load_splits
from raysl.progress import duration
from raysl.study.budget import Budget, hours, num_trials_text
from raysl.study.design import Design
from raysl.study.estimate import CellPlan, Seconds, estimate, timed
from raysl.study.planners import build_planner
from raysl.study.spec import Resources, Study

# Where nothing has been measured yet; the printed forecast says that they are assumed.
USUAL_SLOPE = 2.0  # points per doubling


def show_plan(
    study: Study,
    *,
    local: bool,
    cpus: int | None,
    budget: Budget,
    price_per_hour: float | None,
    assume_sd: float | None,
    slope: float | None,
    console: Console,
) -> None:
    """Print every cell with its trials, what they will cost on this machine, and a forecast.

    price_per_hour: of a device. assume_sd: between seeds, in points; slope: of the difference, in
    points per doubling of the size; None is the usual value, which is then said to be assumed.
    """
    from raysl.cluster import GROUP_SECONDS, GROUP_START_SECONDS, START_SECONDS, TRIAL_SECONDS

    if price_per_hour is not None and not price_per_hour > 0:
        raise ValueError(f"--price-per-hour must be above 0, not {price_per_hour:g}.")
    study.check_workers()
    forecast = forecast_of(study, assume_sd=assume_sd, slope=slope)  # raises before any timing
    splits = load_splits(study.data)
    device = study_device(study.resources)
    overhead = 0.0 if local else GROUP_SECONDS if study.resources.workers > 1 else TRIAL_SECONDS
    plans = estimate(
        study,
        build_planner(study),
        timed_trials(study, splits, device=device),
        overhead_seconds=overhead,
    )
    console.print(study.question, style="bold", highlight=False)
    console.print(plan_table(plans, adaptive=is_adaptive(study)))
    at_once = 1 if local else trials_at_once(study.resources, cpus)
    wall = sum(plan.seconds * plan.num_trials for plan in plans) / at_once
    if not local:
        wall += START_SECONDS + (GROUP_START_SECONDS if study.resources.workers > 1 else 0)
    lines = [
        cost_text(
            plans,
            adaptive=is_adaptive(study),
            price_per_hour=price_per_hour,
            where=f"{at_once} at a time, about {duration(wall)} on this machine's {device}",
        ),
        "Timed over a few updates; early stopping makes it less, trials that share a machine make "
        "it more.",
        budget_text(plans, budget, adaptive=is_adaptive(study)),
        precision_text(study, device),
        forecast,
    ]
    for line in filter(None, lines):
        console.print(line, highlight=False, soft_wrap=True)


def is_adaptive(study: Study) -> bool:
    """Whether results decide how many trials a cell gets, so that the plan is only a ceiling."""
    return study.planner == "threshold"


def study_device(resources: Resources) -> str:
    """Where this machine would run a trial."""
    return "cuda" if torch.cuda.is_available() and resources.gpus_per_worker else "cpu"


def precision_text(study: Study, device: str) -> str | None:
    """What to do about a precision that this machine has no instructions for; None: it has."""
    if study.base.precision != "bfloat16" or device != "cpu" or multiplies_bfloat16():
        return None
    return (
        "This processor emulates bfloat16, which takes several times as long as float32: give "
        "--set precision=float32, or run the study where bfloat16 is native."
    )


def timed_trials(study: Study, splits: Splits, *, device: str) -> Seconds:
    """Device-seconds of a recipe on this machine, with as many threads as a worker has."""
    if device == "cpu":
        torch.set_num_threads(study.resources.cpus_per_worker)
    return timed(splits, study.resources, device=device)


def trials_at_once(resources: Resources, cpus: int | None) -> int:
    """How many trials this machine, or that many of its CPUs, runs side by side."""
    num_workers = (usable_cpus() if cpus is None else cpus) // resources.cpus_per_worker
    if resources.gpus_per_worker and torch.cuda.is_available():
        num_workers = min(num_workers, int(torch.cuda.device_count() / resources.gpus_per_worker))
    return max(1, num_workers // resources.workers)


def plan_table(plans: Sequence[CellPlan], *, adaptive: bool) -> Table:
    """One row a cell: its trials, and what one of them takes."""
    trials = "trials at most" if adaptive else "trials"
    table = Table("cell", trials, "updates", "images", "seconds a trial", box=None)
    for plan in plans:
        table.add_row(
            " ".join(str(v) for v in plan.cell.values() if v is not None),
            str(plan.num_trials),
            f"{plan.steps:,}",
            f"{plan.examples:,}",
            f"{plan.seconds:,.0f}" if plan.seconds >= 10 else f"{plan.seconds:.1f}",
        )
    return table


def cost_text(
    plans: Sequence[CellPlan], *, adaptive: bool, price_per_hour: float | None, where: str
) -> str:
    """Trials, images, device-hours, money and time of the whole plan, in a sentence."""
    spent = sum(plan.device_seconds * plan.num_trials for plan in plans)
    images = sum(plan.examples * plan.num_trials for plan in plans)
    parts = [
        num_trials_text(sum(plan.num_trials for plan in plans)),
        f"{images:,} images trained on",
        f"about {hours(spent)}",
    ]
    if price_per_hour is not None:
        money = spent / 3600 * price_per_hour
        amount = f"{money:,.2f}" if money >= 0.01 else "less than 0.01"
        parts.append(f"money: {amount} at {price_per_hour:,.2f} per device-hour")
    text = f"{', '.join(parts)}; {where}."
    if not adaptive:
        return text
    return (
        "The number of trials in each cell is chosen as results come in. What the full grid costs "
        f"is the ceiling: {text}"
    )


def budget_text(plans: Sequence[CellPlan], budget: Budget, *, adaptive: bool) -> str | None:
    """What the budget leaves of the plan, in a sentence; None without one."""
    if not budget:
        return None
    whole = "full grid" if adaptive else "plan"
    num_trials = sum(plan.num_trials for plan in plans)
    spent = sum(plan.device_seconds * plan.num_trials for plan in plans) / 3600
    share = 1.0 if budget.device_hours is None else budget.device_hours / spent
    if budget.trials is not None and budget.trials < min(share, 1.0) * num_trials:
        part = f"{budget.trials:,} of the {num_trials:,} trials"
    elif share < 1:
        part = f"about {100 * share:.0f} %" if share >= 0.01 else "less than 1 %"
    else:
        return f"The budget of {budget} covers the whole {whole}."
    return f"The budget of {budget} ends the study after {part} of the {whole}."


def forecast_of(study: Study, *, assume_sd: float | None, slope: float | None) -> str | None:
    """How many runs a threshold will need, in words; None for a study without one.

    A threshold needs a baseline and two sizes. Noise and ratio are the study's own, where its
    design names them.
    """
    if study.baseline is None:
        return None
    usual = study.design or Design()
    sd = usual.sd if assume_sd is None else assume_sd
    if not sd > 0:
        raise ValueError(f"--assume-sd must be above 0, not {sd:g}.")
    cells = study.cells()
    sizes = {c[study.size_axis] for c in cells if c["arm"] == study.arm}
    if len(sizes) < 2:
        return None
    flat = all(c[study.size_axis] is None for c in cells if c["arm"] == study.baseline)
    text = forecast_text(
        arm=study.arm,
        baseline=study.baseline,
        sd=sd,
        slope=USUAL_SLOPE if slope is None else slope,
        ratio=usual.target_ratio,
        flat_baseline=flat,
    )
    assumed = [
        *(["seed noise (--assume-sd)"] if assume_sd is None else []),
        *(["slope (--slope)"] if slope is None else []),
    ]
    if assumed:
        text += f" The {' and the '.join(assumed)} {'are' if len(assumed) > 1 else 'is'} assumed."
    if is_adaptive(study) or slope == 0:
        return text
    seeds = len(study.confirm_seeds)
    return (
        f"{text} The plan holds {2 * seeds} runs of {arm_title(study.arm)} near a crossing, "
        f"{seeds} at each of the two sizes around it."
    )
