"""The report of a study: a pure function of its directory."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.analysis.analyse import Analysis, Importance, analyse
from raysl.analysis.decisions import read_search
from raysl.analysis.drawings import draw_all
from raysl.analysis.page import make_page
from raysl.analysis.summary import summarise
from raysl.analysis.test_set import read_correct
from raysl.config import to_dict
from raysl.result import RESULT_FILE, write_atomically
from raysl.study.ledger import PROPOSAL_FILE, read_study
from raysl.study.results import TABLE_FILE, TRIALS_FOLDER, load_results, write_table

PAGE_FILE = "report.html"
CONTENT_FILE = "report.json"
FIGURES_FOLDER = "figures"
IMPORTANCE_FILE = "importance.json"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written, and the analysis that it tells of."""

    page: Path
    content: Mapping[str, Any]
    analysis: Analysis

    @property
    def answer(self) -> str:
        return self.analysis.answer


def write_report(study_directory: Path, *, importance: Importance | None = None) -> Report:
    """Write report.html, report.json, results.parquet and figures/*.png into the directory.

    importance: {cell label: {parameter: share}}; by default from importance.json, if there is one.
    """
    study = read_study(study_directory)
    table = load_results(study_directory)
    if importance is None:
        path = study_directory / IMPORTANCE_FILE
        importance = json.loads(path.read_text()) if path.exists() else {}
    digests = table.column("digest").to_pylist()
    correct = read_correct(study_directory, digests, f"test/{study['objective']}")
    analysis = analyse(study, table, importance=importance, correct=correct)
    drawings = draw_all(analysis, read_search(study, table, metric=analysis.metric))
    content = finite(
        summarise(
            study,
            table,
            analysis,
            num_unfinished=_count_unfinished(study_directory),
        )
        | {"figures": [f"{FIGURES_FOLDER}/{drawing.name}.png" for drawing in drawings]}
    )
    write_table(table, study_directory / TABLE_FILE)
    figures = study_directory / FIGURES_FOLDER
    figures.mkdir(exist_ok=True)
    for drawing in drawings:
        write_atomically(figures / f"{drawing.name}.png", drawing.png)
    for path in figures.glob("*.png"):
        if path.stem not in {drawing.name for drawing in drawings}:
            path.unlink()  # of an earlier report, on other results
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomically(study_directory / CONTENT_FILE, text)
    page = study_directory / PAGE_FILE
    write_atomically(page, make_page(content, drawings))
    return Report(page=page, content=content, analysis=analysis)


def finite(value: Any) -> Any:
    """Plain values for JSON, None in place of infinities and NaN, which JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return to_dict(value)


def _count_unfinished(study_directory: Path) -> int:
    proposed = (study_directory / TRIALS_FOLDER).glob(f"*/{PROPOSAL_FILE}")
    return sum(not path.with_name(RESULT_FILE).exists() for path in proposed)
