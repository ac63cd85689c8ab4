"""The figures of an adaptive search, each captioned with the sentence that it supports."""

from collections.abc import Sequence

from raysl.analysis.answer import Threshold
from raysl.analysis.decisions import Search
from raysl.analysis.figure import Drawing, finish
from raysl.analysis.search_plots import draw_purchases, draw_spending, ratios
from raysl.analysis.wording import arm_title, count, duration, listed

NEAR = 2.0  # a size within this factor of the threshold is near it


def draw_steps(
    search: Search, thresholds: Sequence[Threshold], *, order: Sequence[str], unit: str
) -> list[Drawing]:
    """What the search spent to narrow its intervals, and where its trials are."""
    found = []
    if any(decision.beliefs for decision in search.decisions):
        found.append(_spending(search, thresholds, order))
    return [*found, _purchases(search, thresholds, order, unit)]


def cost_text(search: Search, cost: float) -> str:
    """A cost of the search in words."""
    if search.cost_name == "device_seconds":
        return f"{duration(cost)} of device time"
    return f"{count(cost)} images trained on"


def _spending(search: Search, thresholds: Sequence[Threshold], order: Sequence[str]) -> Drawing:
    sentence = f"The search has spent {cost_text(search, search.cost)}"
    if search.grid_cost:
        share, whole = search.cost / search.grid_cost, cost_text(search, search.grid_cost)
        sentence += f", {share:.2g} of what the full grid is expected to take ({whole})"
    changes = []
    for threshold in thresholds:
        if steps := ratios(search, threshold.arm, threshold):
            whose = f" for {arm_title(threshold.arm)}" if len(thresholds) > 1 else ""
            changes.append(f"from {steps[0][1]:.3g} to {steps[-1][1]:.3g}{whose}")
    if changes:
        sentence += f"; the ratio of the interval's ends went {listed(changes)}"
        if search.target_ratio:
            sentence += f" (target {search.target_ratio:g})"
    reading = (
        "Each step is a trial: the ratio of the interval's upper end to its lower when it was "
        "chosen, against what the trials before it cost."
    )
    if search.grid_cost:
        reading += (
            f" The full grid is every cell with {search.grid_seeds} seeds, at the costs measured "
            "here."
        )
    without = sum(decision.cost is None for decision in search.decisions)
    if without:
        reading += f" {without} of the trials failed and have no measured cost."
    return finish(
        draw_spending(search, thresholds, order=order),
        "compute",
        "steps",
        caption=f"{sentence}. {reading}",
        alternative=f"Width of the threshold's interval against compute. {sentence}.",
    )


def _purchases(
    search: Search, thresholds: Sequence[Threshold], order: Sequence[str], unit: str
) -> Drawing:
    decisions = search.decisions
    points = [threshold.point for threshold in thresholds if threshold.point is not None]
    sized = [decision.size for decision in decisions if decision.size is not None]
    if len(points) != 1 or not sized:
        cells = {(decision.arm, decision.size) for decision in decisions}
        sentence = f"{len(decisions)} trials in {len(cells)} cells."
    else:
        (point,) = points
        near = sum(point / NEAR <= size <= point * NEAR for size in sized)
        candidates = sum(point / NEAR <= size <= point * NEAR for size in search.sizes)
        sentence = (
            f"{near} of the {len(sized)} trials at a size are within a factor of {NEAR:g} of the "
            f"threshold, where {candidates} of the {len(search.sizes)} sizes are."
        )
    reading = (
        "A box is a cell with its number of trials, failed ones included; its strips are the "
        "trials, from the bottom up, coloured by when they were chosen. Empty boxes were not run."
    )
    return finish(
        draw_purchases(search, order=order, unit=unit),
        "design",
        "steps",
        caption=f"{sentence} {reading}",
        alternative=f"Number and order of the trials by arm and size. {sentence}",
    )
