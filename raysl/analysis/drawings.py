"""The figures of a report, each with its file name, caption and text alternative."""

from dataclasses import dataclass

from matplotlib.figure import Figure

from raysl.analysis.analyse import Analysis, Comparison
from raysl.analysis.figure import to_png, to_svg
from raysl.analysis.plots import draw_curves, draw_difference, draw_importance, draw_search
from raysl.analysis.tuning import SearchedCell
from raysl.analysis.wording import arm_title, cell_text, listed, metric_title


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure as PNG for files and as SVG for the page.

    name: of the file, without its ending. part: "curves" or "search", its place in the report.
    """

    name: str
    part: str
    caption: str
    alternative: str
    png: bytes
    svg: str


def draw_all(analysis: Analysis) -> list[Drawing]:
    """Curves and difference of every comparison, then one figure a searched parameter."""
    found = []
    for number, comparison in enumerate(analysis.comparisons):
        suffix = f"-{number + 1}" if len(analysis.comparisons) > 1 else ""
        if comparison.curves:
            found.append(_curves(analysis, comparison, suffix))
        if comparison.threshold is not None:
            found.append(_difference(analysis, comparison, suffix))
    groups = _search_groups(analysis)
    for number, cells in enumerate(groups):
        suffix = f"-{number + 1}" if len(groups) > 1 else ""
        params = sorted({name for cell in cells for tried in cell.tried for name in tried.params})
        found += [_search(analysis, cells, param, suffix) for param in params]
    if any(analysis.importance.values()):
        found.append(_importance(analysis))
    return found


def _finish(figure: Figure, name: str, part: str, *, caption: str, alternative: str) -> Drawing:
    return Drawing(
        name=name,
        part=part,
        caption=caption,
        alternative=alternative,
        png=to_png(figure),
        svg=to_svg(figure, name, title=alternative),
    )


def _curves(analysis: Analysis, comparison: Comparison, suffix: str) -> Drawing:
    figure = draw_curves(
        comparison.curves,
        order=analysis.order,
        metric=analysis.metric,
        unit=analysis.unit,
        threshold=comparison.threshold,
    )
    arms = listed(arm_title(curve.arm) for curve in comparison.curves)
    noise, confidence = analysis.noise, 100 * comparison.curves[0].confidence
    caption = "Lines are means, points single seeds"
    if noise.sd is not None:
        caption += (
            f", bands {confidence:g} % intervals of the mean from a seed sd of {noise.sd:.2f} "
            f"points pooled over all cells ({noise.df} degrees of freedom)"
        )
    else:
        caption += "; without repetitions there is no interval"
    if comparison.threshold is not None and comparison.threshold.design in ("pairs", "blocks"):
        caption += ". The threshold is taken from differences seed by seed, in which what the "
        caption += "trials of a seed share cancels, so its interval does not follow from the bands"
    if any(curve.is_flat for curve in comparison.curves):
        caption += ". A dashed line is an arm that does not depend on the size; its seeds are at "
        caption += "the right edge"
    return _finish(
        figure,
        f"curves{suffix}",
        "curves",
        caption=_placed(comparison, caption),
        alternative=f"{metric_title(analysis.metric)} of {arms} by number of {analysis.unit}.",
    )


def _difference(analysis: Analysis, comparison: Comparison, suffix: str) -> Drawing:
    threshold = comparison.threshold
    assert threshold is not None
    names = f"{arm_title(threshold.arm)} minus {arm_title(threshold.baseline)}"
    caption = f"{names}: above zero {arm_title(threshold.arm)} is ahead"
    if threshold.noise.sd is not None:
        caption += (
            f". The band holds the whole curve with {100 * threshold.confidence:g} % confidence"
        )
    if threshold.kind == "found":
        caption += "; the grey strip is the threshold's interval"
    return _finish(
        draw_difference(threshold),
        f"difference{suffix}",
        "curves",
        caption=_placed(comparison, caption),
        alternative=f"Difference {names} by number of {analysis.unit}. {threshold.sentence()}",
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
    return _finish(
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
    return _finish(
        draw_importance(named),
        "importance",
        "search",
        caption="Importance: the share of the variation in the search that each parameter "
        "explains (fANOVA). Shares from few trials are rough.",
        alternative="Importance of each searched parameter by size.",
    )


def _placed(comparison: Comparison, caption: str) -> str:
    place = cell_text(comparison.where)
    return f"{place}. {caption}." if place else f"{caption}."


def _file_name(param: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in param)
