"""A study's trials as one Arrow table, made from the files in their directories."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raysl.config import to_dict
from raysl.result import RESULT_FILE, TrialResult, read_result, write_atomically
from raysl.study.ledger import PROPOSAL_FILE, STOP_FILE, STUDY_FILE

if TYPE_CHECKING:
    import pyarrow as pa

TRIALS_FOLDER = "trials"
TABLE_FILE = "results.parquet"
STOP_KEY = b"stop_reason"  # of the table's metadata

# Arrow's name of each type that an axis may have.
_SCALARS = {bool: "bool_", int: "int64", float: "float64", str: "string"}


def load_results(study_directory: Path) -> "pa.Table":
    """One row a finished trial, sorted by phase, arm, further axes, seed and number.

    Columns: digest, phase, arm; each axis of the cell (pool_size null: the arm does not depend on
    it); label_size, seed, number, order (of the proposals), status, flags, attempts, error, final;
    params, why (a search's reasons), recipe, protocols and provenance as JSON; each metric
    ("test/knn_top1"), null where it was not measured; each cost ("cost/seconds"). A trial without
    result.json is not finished, and not in the table. The table's metadata say why a search ended.
    """
    import pyarrow as pa

    trials = _read_trials(study_directory)
    axes = _axes(study_directory, [proposal for proposal, _ in trials])
    trials.sort(key=lambda trial: _order(trial[0], axes))
    columns: dict[str, pa.Array] = {}

    def add(name: str, kind: pa.DataType, values: list[Any]) -> None:
        if name in columns:
            raise ValueError(f"An axis of the study is called {name!r}, a column that is taken.")
        columns[name] = pa.array(values, kind)

    proposals, results = [p for p, _ in trials], [r for _, r in trials]
    text, whole = pa.string(), pa.int64()
    add("digest", text, [r.digest for r in results])
    add("phase", text, [p["phase"] for p in proposals])
    for axis in axes:
        values = [p["cell"].get(axis) for p in proposals]
        kind, values = _axis_column(axis, values)
        add(axis, kind, values)
    if "label_size" not in axes:
        add("label_size", whole, [r.recipe.get("label_size") for r in results])
    add("seed", whole, [p["seed"] for p in proposals])
    add("number", whole, [p["number"] for p in proposals])
    add("order", whole, [p["order"] for p in proposals])
    add("status", text, [r.status for r in results])
    add("flags", pa.list_(text), [list(r.flags) for r in results])
    add("attempts", whole, [r.attempts for r in results])
    add("error", text, [r.error for r in results])
    add("final", pa.bool_(), [r.final for r in results])
    add("params", text, [_json(p["params"]) for p in proposals])
    add("why", text, [_json(p.get("why", {})) for p in proposals])
    add("recipe", text, [_json(r.recipe) for r in results])
    add("protocols", text, [_json(r.protocols) for r in results])
    add("provenance", text, [_json(r.provenance) for r in results])
    for metric in sorted({name for r in results for name in r.metrics}):
        add(metric, pa.float64(), [r.metrics.get(metric) for r in results])
    for cost in sorted({name for r in results for name in r.cost}):
        add(f"cost/{cost}", pa.float64(), [r.cost.get(cost) for r in results])
    return pa.table(columns, metadata={STOP_KEY: _stop_reason(study_directory)})


def stop_reason(table: "pa.Table") -> str:
    """Why the search behind these results ended, in a sentence; empty where it did not."""
    return ((table.schema.metadata or {}).get(STOP_KEY) or b"").decode()


def _stop_reason(study_directory: Path) -> str:
    path = study_directory / STOP_FILE
    if not path.exists():
        return ""
    return json.loads(path.read_text())["reason"] or ""


def write_table(table: "pa.Table", path: Path) -> None:
    """Write a table as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())


def _read_trials(study_directory: Path) -> list[tuple[dict[str, Any], TrialResult]]:
    trials = []
    for path in sorted((study_directory / TRIALS_FOLDER).glob(f"*/{RESULT_FILE}")):
        try:
            proposal = json.loads((path.parent / PROPOSAL_FILE).read_text())
            result = read_result(path.parent)
        except FileNotFoundError:
            raise ValueError(
                f"{path.parent} has a {RESULT_FILE} and no {PROPOSAL_FILE}, so its place in the "
                "study is unknown; delete the folder and run the study again."
            ) from None
        except ValueError as error:  # of JSON too
            raise ValueError(
                f"{path.parent} cannot be read ({error}); delete it and run the study again."
            ) from None
        assert result is not None
        trials.append((proposal, result))
    return trials


def _axes(study_directory: Path, proposals: list[dict[str, Any]]) -> list[str]:
    """The names of the cells' axes, the arm and then the sizes first."""
    found = {axis for proposal in proposals for axis in proposal["cell"]}
    path = study_directory / STUDY_FILE
    if path.exists():
        found |= set(json.loads(path.read_text()).get("axes", {}))
    first = [a for a in ("arm", "pool_size", "label_size") if a in found | {"arm", "pool_size"}]
    return first + sorted(found - set(first))


def _axis_column(axis: str, values: list[Any]) -> tuple["pa.DataType", list[Any]]:
    """The Arrow type of an axis; values of several types become JSON text."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if axis.endswith("_size") and not kinds - {int}:
        return pa.int64(), values
    if kinds == {int, float}:
        kinds = {float}
    if not kinds:
        return pa.string(), values
    if len(kinds) == 1 and (kind := kinds.pop()) in _SCALARS:
        return getattr(pa, _SCALARS[kind])(), values
    return pa.string(), [None if value is None else _json(value) for value in values]


def _order(proposal: Mapping[str, Any], axes: list[str]) -> tuple[Any, ...]:
    """Sorts nulls first, then numbers by value, then anything else by its text."""

    def key(value: Any) -> tuple[int, float, str]:
        if value is None:
            return 0, 0.0, ""
        if isinstance(value, int | float):
            return 1, float(value), ""
        return 2, 0.0, value if isinstance(value, str) else _json(value)

    cell = [key(proposal["cell"].get(axis)) for axis in axes]
    return proposal["phase"], cell, proposal["seed"], proposal["number"], proposal["digest"]


def _json(value: Any) -> str:
    return json.dumps(to_dict(value), sort_keys=True)
