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
        "the noise pooled over all cells. Size “any”: the arm does not depend on it.",
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


def search(content: Mapping[str, Any]) -> Html:
    if not content["search"]:
        return Html("")
    rows = []
    for cell in content["search"]:
        best = cell["best"]
        chosen = [f"{name} = {number(v)}" for name, v in best["params"].items()] if best else []
        trials = [f"{cell['num_finished']} finished"]
        trials += [
            f"{cell[key]} {word}"
            for key, word in (("num_stopped", "pruned"), ("num_failed", "failed"))
            if cell[key]
        ]
        rows.append(
            [
                cell_text(cell["cell"]),
                Html("<br>".join(text(line) for line in chosen)) if best else "none finished",
                points(best["value"]) if best else "–",
                ", ".join(trials),
            ]
        )
    metric = metric_title(content["metric"].replace("test/", "val/", 1))
    return table(
        "The search in each cell on val, and its best trial, whose parameters were confirmed.",
        ["cell", "best parameters", metric, "trials"],
        rows,
        numbers=(2,),
    )


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
