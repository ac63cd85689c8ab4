"""The tables of a report's page, each from the content of report.json; empty without rows."""

from collections.abc import Mapping
from typing import Any

from raysl.analysis.markup import Html, details, element, items, join, table, text
from raysl.analysis.wording import (
    arm_title,
    cell_text,
    count,
    duration,
    listed,
    metric_title,
    number,
    points,
    probability,
)


def cells(content: Mapping[str, Any]) -> Html:
    cells = content["cells"]
    if not cells:
        return Html("")
    names = [n for n in content["metrics"] if any(n in c["metrics"] for c in cells)]
    axes = [axis for axis in cells[0]["cell"] if axis != "arm"]
    rows = [
        [
            arm_title(cell["cell"]["arm"]),
            *("any" if (v := cell["cell"][axis]) is None else number(v) for axis in axes),
            cell["num_ok"],
            *(_interval(cell["metrics"].get(name)) for name in names),
            listed(
                f"{cell[key]} {word}"
                for key, word in (("num_failed", "failed"), ("num_collapsed", "collapsed"))
                if cell[key]
            )
            if cell["num_failed"] or cell["num_collapsed"]
            else "",
        ]
        for cell in cells
    ]
    header = ["arm", *(axis.replace("_", " ") for axis in axes), "seeds"]
    header += [metric_title(name) for name in names]
    if any(row[-1] for row in rows):
        header.append("trials")
    else:
        rows = [row[:-1] for row in rows]
    return table(
        "Every cell of the confirmation: number of seeds, mean and 90 % interval of the mean from "
        "the noise pooled over all cells. “Any”: one recipe for all values.",
        header,
        rows,
        numbers=range(1, 2 + len(axes) + len(names)),
    )


def _interval(value: Mapping[str, Any] | None) -> Html:
    if value is None:
        return text("–")
    mean = points(value["mean"])
    if value["low"] is None:
        return text(mean)
    extent = f"{points(value['low'])}–{points(value['high'])}"
    return Html(f"{text(mean)} {element('span', extent, class_='range')}")


def rankings(content: Mapping[str, Any]) -> Html:
    return join(
        _ranking(ranking, comparison["where"], unit=content["unit"])
        for comparison in content["comparisons"]
        for ranking in comparison["rankings"]
    )


def _ranking(ranking: Mapping[str, Any], where: Mapping[str, Any], *, unit: str) -> Html:
    group = {arm: i for i, arms in enumerate(ranking["groups"], start=1) for arm in arms}
    rows = [
        [
            arm_title(s["arm"]),
            group[s["arm"]],
            s["num_seeds"],
            points(s["mean"]),
            _interval({"mean": s["behind"], "low": low, "high": high}) if i else text("–"),
            probability(s["p_within_margin"]),
            *(probability(p) for p in s["p_rank"]),
        ]
        for i, s in enumerate(ranking["standings"])
        for low, high in [s["behind_interval"]]
    ]
    size, margin = ranking["size"], f"{ranking['margin']:g} points"
    parts = ["" if size is None else f"{count(size)} {unit}", cell_text(where)]
    place = ", ".join(part for part in parts if part)
    caption = (
        f"Ranking{' at ' + place if place else ''}. Group: arms that its first is not shown, with "
        f"95 % for all pairs together, to be ahead of by more than {margin}. Behind: the highest "
        "mean minus this one, with its 90 % interval. Then the probabilities to be at most "
        f"{margin} short of the best, and of each rank."
    )
    header = ["arm", "group", "seeds", "mean", "behind", f"within {margin}"]
    header += [f"rank {i}" for i in range(1, len(rows) + 1)]
    sentence = element("p", ranking["sentence"])
    return join([sentence, table(caption, header, rows, numbers=range(1, len(header)))])


def claims(content: Mapping[str, Any]) -> Html:
    blocks = []
    for comparison in content["comparisons"]:
        found = comparison["claims"]["claims"]
        if found:
            rows = [
                [
                    arm_title(claim["arm"]),
                    "any" if claim["size"] is None else count(claim["size"]),
                    points(claim["difference"]),
                    points(claim["error"]),
                    "–" if claim["df"] is None else number(claim["df"], digits=2),
                    f"{claim['p']:.2g}",
                    f"{claim['p_adjusted']:.2g}",
                    "yes" if claim["holds"] else "no",
                ]
                for claim in found
            ]
            baseline = arm_title(found[0]["baseline"])
            place = cell_text(comparison["where"])
            caption = (
                f"Which arms are shown to beat {baseline}{', at ' + place if place else ''}: the "
                "difference, its standard error with its degrees of freedom, one-sided p, and p "
                "adjusted by Holm for all rows of this table."
            )
            header = ["arm", "size", "difference", "error", "df", "p", "adjusted p", "shown"]
            blocks.append(element("p", comparison["claims"]["sentence"]))
            blocks.append(table(caption, header, rows, numbers=range(1, 7)))
    return join(blocks)


def failures(content: Mapping[str, Any]) -> Html:
    blocks = []
    for trial in content["failed"]:
        sentence, _, rest = (trial["error"] or "no error was recorded").partition("\n")
        title = f"{cell_text(trial['cell'])}, {trial['phase']}, seed {trial['seed']}: {sentence}"
        where = f"trials/{trial['digest']}, {trial['attempts']} attempts"
        blocks.append(details(title, element("p", where), element("pre", rest) if rest else ""))
    collapsed = [
        f"Collapsed features: {cell_text(trial['cell'])}, {trial['phase']}, seed {trial['seed']} "
        f"(trials/{trial['digest']})"
        for trial in content["collapsed"]
    ]
    return join([*blocks, items(collapsed, class_="notes")])


def cost(content: Mapping[str, Any]) -> Html:
    if not content["cost"]:
        return Html("")
    names = ("num_trials", "device_seconds", "examples")
    total = {name: sum(entry[name] for entry in content["cost"]) for name in names}

    def row(first: str, second: str, entry: Mapping[str, Any]) -> list[object]:
        return [
            first,
            second,
            count(entry["num_trials"]),
            duration(entry["device_seconds"]),
            count(entry["examples"]),
        ]

    rows = [row(arm_title(e["arm"]), e["phase"], e) for e in content["cost"]]
    without = sum(entry["num_without_cost"] for entry in content["cost"])
    caption = "Device time is the sum over the workers of all trials."
    if without:
        caption += f" {without} of the trials failed and have no measured cost."
    return table(
        caption,
        ["arm", "phase", "trials", "device time", "images seen"],
        [*rows, row("all", "", total)],
        numbers=(2, 3, 4),
    )


def provenance(content: Mapping[str, Any]) -> Html:
    rows = []
    for name, values in content["provenance"].items():
        several = len(values) > 1
        told = [
            f"{number(v['value'])} (in {count(v['num_trials'])} of the trials)"
            if several
            else number(v["value"])
            for v in values
        ]
        rows.append([name.replace("_", " "), Html("<br>".join(text(line) for line in told))])
    if not rows:
        return Html("")
    return table("What the finished trials state of themselves.", ["", "value"], rows, numbers=())
