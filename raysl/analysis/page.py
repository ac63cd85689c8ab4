"""The report as one HTML page: the content of report.json, worded, with its figures inline."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from raysl.analysis.drawings import Drawing
from raysl.analysis.markup import Html, details, element, items, join, section, table, text
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

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is fetched, no script runs


def make_page(content: Mapping[str, Any], drawings: Sequence[Drawing]) -> str:
    """A complete HTML document that asks nothing of the network."""
    style = resources.files("raysl.analysis").joinpath("report.css").read_text()
    body = join(
        [
            _head(content),
            section("Curves", _figures(drawings, "curves"), _training(content)),
            section("Cells", _cells(content)),
            section("Search", _search(content), _figures(drawings, "search")),
            section("Failed and collapsed trials", _failures(content)),
            section("Cost", _cost(content)),
            section("Recipe", _recipe(content)),
            section("Provenance", _provenance(content)),
            section("Reproduce", _reproduce(content)),
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">\n'
        f"<title>{text(content['name'])}: {text(content['answer'])}</title>\n"
        f"<style>\n{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(content: Mapping[str, Any]) -> Html:
    answers = []
    for comparison in content["comparisons"]:
        threshold = comparison["threshold"]
        notes = threshold["notes"] if threshold else []
        answers.append(items([*notes, *_masses(threshold)], class_="notes"))
    return element(
        "header",
        element("h1", content["name"]),
        element("p", content["question"], class_="question"),
        element("div", element("p", content["answer"]), class_="answer", role="status"),
        *answers,
        items(content["warnings"], class_="warnings"),
    )


def _masses(threshold: Mapping[str, Any] | None) -> list[str]:
    if threshold is None or threshold["masses"] is None:
        return []
    low, high = (count(size) for size in threshold["sizes"])
    masses = threshold["masses"]
    return [
        f"Probability that the threshold lies below {low}: {probability(masses['below'])}; between "
        f"{low} and {high}: {probability(masses['inside'])}; above {high}, or nowhere: "
        f"{probability(masses['above'])}."
    ]


def _figures(drawings: Sequence[Drawing], part: str) -> Html:
    chosen = [
        element("figure", Html(drawing.svg), element("figcaption", drawing.caption))
        for drawing in drawings
        if drawing.part == part
    ]
    return element("div", join(chosen), class_="figures") if chosen else Html("")


def _training(content: Mapping[str, Any]) -> Html:
    """Fixed steps and fixed epochs answer different questions, so each curve names its policy."""
    parts = []
    for arm in content["training"]:
        lengths = [
            "not trained" if not d["amount"] else f"{count(d['amount'])} {d['unit']}"
            for d in arm["durations"]
        ]
        words = f"{arm_title(arm['arm'])} {listed(lengths, 'or')}"
        parts.append(words + (" or until the validation loss rises" * arm["early_stopping"]))
    return element("p", f"Length of training: {'; '.join(parts)}.") if parts else Html("")


def _cells(content: Mapping[str, Any]) -> Html:
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


def _search(content: Mapping[str, Any]) -> Html:
    if not content["search"]:
        return Html("")
    rows = []
    for cell in content["search"]:
        best = cell["best"]
        chosen = best["params"] if best else {}
        values = [f"{name} = {number(value)}" for name, value in chosen.items()]
        rows.append(
            [
                cell_text(cell["cell"]),
                cell["num_finished"],
                cell["num_stopped"],
                cell["num_failed"],
                points(best["value"]) if best else "–",
                Html("<br>".join(text(value) for value in values)) if best else "none finished",
            ]
        )
    metric = metric_title(content["metric"].replace("test/", "val/", 1))
    return table(
        "The search in each cell on val, and its best trial, whose parameters were confirmed.",
        ["cell", "finished", "pruned", "failed", metric, "best parameters"],
        rows,
        numbers=(1, 2, 3, 4),
    )


def _failures(content: Mapping[str, Any]) -> Html:
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


def _cost(content: Mapping[str, Any]) -> Html:
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
        caption += f" {without} trials that failed have no measured cost."
    return table(
        caption,
        ["arm", "phase", "trials", "device time", "images seen"],
        [*rows, row("all", "", total)],
        numbers=(2, 3, 4),
    )


def _recipe(content: Mapping[str, Any]) -> Html:
    study = content["study"]
    plan = {k: v for k, v in study.items() if k not in ("base", "question", "command")}
    return join(
        [
            details("The recipe that every trial starts from", _pretty(study.get("base"))),
            details("The study: axes, seeds, search", _pretty(plan)),
        ]
    )


def _provenance(content: Mapping[str, Any]) -> Html:
    rows = []
    for name, values in content["provenance"].items():
        several = len(values) > 1
        told = [
            f"{number(v['value'])} ({count(v['num_trials'])} trials)"
            if several
            else number(v["value"])
            for v in values
        ]
        rows.append([name.replace("_", " "), Html("<br>".join(text(line) for line in told))])
    if not rows:
        return Html("")
    return table("What the finished trials state of themselves.", ["", "value"], rows, numbers=())


def _reproduce(content: Mapping[str, Any]) -> Html:
    study = content["study"]
    return join(
        [
            element("p", "The same command resumes a study that was interrupted:"),
            element("pre", study.get("command") or "The command was not recorded."),
            element(
                "p",
                "Beside this file: report.json (all of this for programs), results.parquet (one "
                f"row a trial) and figures/. Study digest {study.get('digest', 'not recorded')}.",
            ),
        ]
    )


def _pretty(value: Any) -> Html:
    return element("pre", json.dumps(value, indent=2, ensure_ascii=False))
