"""The report as one HTML page: the content of report.json, worded, with its figures inline."""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from raysl.analysis.figure import Drawing
from raysl.analysis.markup import Html, details, element, items, join, section, text
from raysl.analysis.search_tables import search, steps
from raysl.analysis.tables import cells, claims, cost, failures, provenance, rankings
from raysl.analysis.wording import arm_title, count, listed, placed, probability

POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # nothing is fetched, no script runs


def make_page(content: Mapping[str, Any], drawings: Sequence[Drawing]) -> str:
    """A complete HTML document that asks nothing of the network."""
    style = resources.files("raysl.analysis").joinpath("report.css").read_text()
    body = join(
        [
            _head(content),
            section("Curves", _figures(drawings, "curves"), _training(content)),
            section(
                "How far the curves can be trusted",
                _figures(drawings, "checks"),
                _unchecked(content),
            ),
            section("The search, step by step", _figures(drawings, "steps"), steps(content)),
            section("Ranking", _figures(drawings, "ranking"), rankings(content), claims(content)),
            section("Cells", cells(content)),
            section("Search", search(content), _figures(drawings, "search")),
            section("Failed and collapsed trials", failures(content)),
            section("Cost", cost(content)),
            section("Recipe", _recipe(content)),
            section("Provenance", provenance(content)),
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
        notes = [*comparison["notes"], *(threshold["notes"] if threshold else [])]
        notes += _masses(threshold)
        answers.append(items([placed(comparison["where"], note) for note in notes], class_="notes"))
    return element(
        "header",
        element("h1", content["name"]),
        element("p", content["question"], class_="question"),
        element("div", element("p", content["answer"]), class_="answer"),
        *answers,
        items(content["warnings"], class_="warnings"),
    )


def _masses(threshold: Mapping[str, Any] | None) -> list[str]:
    if threshold is None or threshold["kind"] in ("undetermined", "several"):
        return []  # the sentence tells it
    if threshold["masses"]["inside"] > 0.995:
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


def _unchecked(content: Mapping[str, Any]) -> Html:
    """Why curve families are not compared, where they are not."""
    return join(
        element("p", placed(comparison["where"], models["sentence"]))
        for comparison in content["comparisons"]
        if (models := comparison["models"]) is not None and models["reason"]
    )


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


def _recipe(content: Mapping[str, Any]) -> Html:
    study = content["study"]
    plan = {k: v for k, v in study.items() if k not in ("base", "question", "command")}
    return join(
        [
            details("The recipe that every trial starts from", _pretty(study.get("base"))),
            details("The study: axes, seeds, search", _pretty(plan)),
        ]
    )


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
