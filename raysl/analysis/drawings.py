"""The figures of a report, each with its file name, caption and text alternative."""

from raysl.analysis.analyse import Analysis
from raysl.analysis.decisions import Search
from raysl.analysis.figure import Drawing, finish
from raysl.analysis.frontier_answer import Frontier
from raysl.analysis.frontier_plot import draw_frontier
from raysl.analysis.search_drawings import draw_steps
from raysl.analysis.threshold_drawings import draw_comparison
from raysl.analysis.tuning import SearchedCell
from raysl.analysis.tuning_plots import draw_importance, draw_search
from raysl.analysis.wording import arm_title, cell_text, metric_title


def draw_all(analysis: Analysis, search: Search | None = None) -> list[Drawing]:
    """The figures of every comparison, of an adaptive search, and one a tuned parameter."""
    found = []
    for number, comparison in enumerate(analysis.comparisons):
        suffix = f"-{number + 1}" if len(analysis.comparisons) > 1 else ""
        found += draw_comparison(
            comparison,
            order=analysis.order,
            metric=analysis.metric,
            unit=analysis.unit,
            suffix=suffix,
        )
    if analysis.frontier is not None:
        found.append(_frontier(analysis.frontier))
    if search is not None:
        thresholds = [c.threshold for c in analysis.comparisons if c.threshold is not None]
        found += draw_steps(search, thresholds, order=analysis.order, unit=analysis.unit)
    groups = _search_groups(analysis)
    for number, cells in enumerate(groups):
        suffix = f"-{number + 1}" if len(groups) > 1 else ""
        params = sorted({name for cell in cells for tried in cell.tried for name in tried.params})
        found += [_search(analysis, cells, param, suffix) for param in params]
    if any(analysis.importance.values()):
        found.append(_importance(analysis))
    return found


def _frontier(frontier: Frontier) -> Drawing:
    names = f"{arm_title(frontier.arm)} minus {arm_title(frontier.baseline)}"
    return finish(
        draw_frontier(frontier),
        "frontier",
        "curves",
        caption=f"{frontier.sentence()} Numbers are {names} in points; a filled mark is a claim, "
        "a hollow one is undetermined, an arrow says that the frontier lies beyond the grid.",
        alternative=f"{names} by pool size and label size. {frontier.sentence()}",
    )


def _search_groups(analysis: Analysis) -> list[list[SearchedCell]]:
    """The searched cells of one arm and one value of further axes, by size."""
    found: dict[str, list[SearchedCell]] = {}
    for cell in analysis.searches:
        if cell.tried:
            found.setdefault(repr(_without_size(analysis, cell)), []).append(cell)
    return list(found.values())


def _without_size(analysis: Analysis, cell: SearchedCell) -> dict[str, object]:
    return {name: value for name, value in cell.cell.items() if name != analysis.size_axis}


def _search(analysis: Analysis, cells: list[SearchedCell], param: str, suffix: str) -> Drawing:
    metric = analysis.metric.replace("test/", "val/", 1)
    figure = draw_search(cells, param=param, metric=metric, unit=analysis.unit)
    place = cell_text(_without_size(analysis, cells[0]))
    caption = (
        f"{place}: {metric_title(metric)} against {param}, one point a trial, the best of each "
        "size ringed. The other parameters vary from point to point, and along the moving averages."
    )
    return finish(
        figure,
        f"search-{_file_name(param)}{suffix}",
        "search",
        caption=caption,
        alternative=f"{metric_title(metric)} of {place} against {param} by size.",
    )


def _importance(analysis: Analysis) -> Drawing:
    titles = {}
    for cell in analysis.searches:
        place, size = cell_text(_without_size(analysis, cell)), cell.size_title(analysis.unit)
        titles[cell.label] = size if len(_search_groups(analysis)) == 1 else f"{place}, {size}"
    named = {
        titles.get(label, label): shares for label, shares in analysis.importance.items() if shares
    }
    return finish(
        draw_importance(named),
        "importance",
        "search",
        caption="Importance: the share of the variation in the search that each parameter "
        "explains (fANOVA). Shares from few trials are rough.",
        alternative="Importance of each searched parameter by size.",
    )


def _file_name(param: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in param)
