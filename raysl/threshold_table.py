"""What `raysl threshold` prints: the whole analysis of a bare table of results."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from raysl.analysis.answer import Threshold
from raysl.analysis.checks import check_units
from raysl.analysis.claims import claims_sentence
from raysl.analysis.compare import Comparison, compare_tables
from raysl.analysis.scores import Score, choose_arms, choose_baseline, read_table
from raysl.analysis.threshold_drawings import draw_comparison
from raysl.analysis.wording import count
from raysl.result import write_atomically


def show_threshold(
    file: Path,
    *,
    arm: str | None,
    baseline: str | None,
    assume_sd: float | None,
    margin: float,
    confidence: float,
    metric: str,
    size: str,
    point: float,
    lower_is_better: bool,
    figures: Path | None,
    console: Console,
) -> None:
    """Print the differences, the threshold of every arm, what it rests on and the ranking.

    arm: None for all beside the baseline. margin, assume_sd: in units of the metric. point: one
    point in these units: 1 for percent, 0.01 for fractions. figures: a folder to draw them into.
    """
    scores = read_table(file, size=size, metric=metric)
    names = sorted({score.arm for score in scores})
    if arm is None and len(names) > 2:
        baseline = choose_baseline(names, baseline)
        flat = {score.arm for score in scores if score.size is None}
        # beside a flat baseline another flat arm, such as a frozen random encoder, has no threshold
        arms = [n for n in names if n != baseline and not {n, baseline} <= flat]
    else:
        arm, baseline = choose_arms(scores, arm=arm, baseline=baseline)
        arms = [arm]
    if lower_is_better:  # negated here alone; -arm - -baseline is how far the arm is below
        check_units([s for s in scores if s.arm in (*arms, baseline)], point=point)
        scores = [dataclasses.replace(score, value=-score.value) for score in scores]
    comparisons = compare_tables(
        scores,
        arms=arms,
        baseline=baseline,
        confidence=confidence,
        point=point,
        margin=margin,
        assume_sd=assume_sd,
    )
    if figures is not None:
        _make(figures)  # or a sentence, before anything is printed
    for comparison in comparisons:
        _show(comparison, point=point, lower_is_better=lower_is_better, console=console)
    if figures is not None:
        title = f"minus {metric}" if lower_is_better else metric
        _draw(comparisons, scores, title, figures, console=console)


def _show(comparison: Comparison, *, point: float, lower_is_better: bool, console: Console) -> None:
    found = comparison.threshold
    assert found is not None
    console.print(_differences(found, point=point, lower_is_better=lower_is_better))
    if lower_is_better:
        console.print(
            f"Lower is better: a difference above 0 is how far {found.arm} is below "
            f"{found.baseline}.",
            highlight=False,
        )
    console.print(found.sentence(), style="bold", highlight=False, soft_wrap=True)
    models = comparison.models
    notes = [*found.notes, *comparison.notes]
    notes += [text for text in (models.sentence(), models.warning()) if text] if models else []
    notes += [ranking.sentence() for ranking in comparison.rankings]
    notes += [claims_sentence(comparison.claims)] if comparison.claims else []
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)


def _differences(found: Threshold, *, point: float, lower_is_better: bool) -> Table:
    names = (found.baseline, found.arm) if lower_is_better else (found.arm, found.baseline)
    digits = max(0, 2 - math.floor(math.log10(point)))
    table = Table(
        "size", " - ".join(names), "fitted", f"{100 * found.confidence:g} % interval", box=None
    )
    for difference in found.differences:
        mean, estimate, low, high = (
            "-" if value is None else f"{value:+.{digits}f}"
            for value in (difference.mean, difference.estimate, difference.low, difference.high)
        )
        interval = "-" if difference.low is None else f"{low} to {high}"
        table.add_row(count(difference.size), mean, estimate, interval)
    return table


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"The folder {folder} for the figures cannot be made ({error.strerror}); choose "
            "another with --figures."
        ) from None


def _draw(
    comparisons: Sequence[Comparison],
    scores: Sequence[Score],
    metric: str,
    folder: Path,
    *,
    console: Console,
) -> None:
    arms = {score.arm for score in scores}
    for number, comparison in enumerate(comparisons):
        found = comparison.threshold
        assert found is not None
        drawings = draw_comparison(
            comparison,
            order=(found.arm, found.baseline, *sorted(arms - {found.arm, found.baseline})),
            metric=metric,
            unit=found.unit,
            suffix=f"-{number + 1}" if len(comparisons) > 1 else "",
        )
        for drawing in drawings:
            path = folder / f"{drawing.name}.png"
            write_atomically(path, drawing.png)
            console.print(path, highlight=False, soft_wrap=True)
            console.print(f"  {drawing.caption}", highlight=False, soft_wrap=True)
