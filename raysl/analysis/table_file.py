"""The rows of a CSV or Parquet table, and the numbers in its cells, as people write them."""

import csv
import io
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,' \u00a0\u202f\u2019]\d{3})+")
_NUMBER = re.compile(r"(?P<digits>[+-]?\d+(?:[.,]\d+)?) ?(?P<unit>%|[^\W\d]+)?")
_MULTIPLES = {"k": 1e3, "m": 1e6}


class Row(NamedTuple):
    """where: "row 3", as an editor counts lines in a CSV file and as records in a Parquet file."""

    where: str
    values: dict[str, Any]


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The named columns of a CSV or Parquet file; ValueError where the file cannot hold them.

    A Parquet file is known by its first bytes or its name. CSV is UTF-8 with commas between
    columns; other separators are refused, since with them a comma may be a decimal one.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a CSV or Parquet file in it.")
    if not path.is_file():
        raise ValueError(f"There is no table {path}; name a CSV or Parquet file.")
    data = path.read_bytes()
    if not data.strip():
        raise ValueError(f"{path} is empty; its first line must name {', '.join(columns)}.")
    is_parquet = path.suffix == ".parquet" or data.startswith(b"PAR1")
    rows = _parquet_rows(path, columns) if is_parquet else _csv_rows(path, data, columns)
    if not rows:
        raise ValueError(f"{path} has no rows below its columns {', '.join(columns)}; add some.")
    return rows


def read_number(value: Any, where: str, column: str, *, is_count: bool = False) -> float:
    """A number, or a ValueError that names the row and, where it is plain, what to write.

    is_count: "5,000" and "5k" mean thousands. Elsewhere a comma is taken for a decimal one.
    """
    if value is None or value == "":
        raise ValueError(f"{where.capitalize()} has no {column}; fill it in or remove the row.")
    if not isinstance(value, bool):  # True would be read as 1
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    mended = _mend(value, is_count=is_count) if isinstance(value, str) else None
    sign = "drop the percent sign and " if mended and "%" in value else ""
    fix = f"{sign}write {mended}" if mended else "fill in a number or remove the row"
    shown = reprlib.repr(value)  # cut, should it be long
    raise ValueError(f"{where.capitalize()}: the {column} must be a number, not {shown}; {fix}.")


def read_whole(value: Any, where: str, column: str) -> int:
    """A whole number of any length; 3.0 and "3e0" are 3."""
    try:
        return int(str(value))  # a float would round a seed above 2^53
    except ValueError:
        number = read_number(value, where, column)
        if number.is_integer():
            return int(number)
    raise ValueError(
        f"{where.capitalize()}: the {column} must be a whole number, not {reprlib.repr(value)}; "
        "number the repetitions 0, 1, 2."
    )


def _mend(text: str, *, is_count: bool) -> str | None:
    """What was meant by "71,5", "71.5 %", "5,000", "5k" or "500 images"."""
    if is_count and _THOUSANDS.fullmatch(text):
        return re.sub(r"[^\d+-]", "", text)
    found = _NUMBER.fullmatch(text)
    if not found:
        return None
    digits, unit = found["digits"].replace(",", "."), (found["unit"] or "").lower()
    if unit in _MULTIPLES:
        return f"{float(digits) * _MULTIPLES[unit]:.15g}" if is_count else None
    return digits


def _csv_rows(path: Path, data: bytes, columns: Sequence[str]) -> list[Row]:
    if data.startswith(b"PK"):
        raise ValueError(f"{path} is a spreadsheet or an archive; save the table as CSV UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} line {line} is not UTF-8 text; save it as CSV UTF-8.") from None
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    names: list[str] = []
    rows = []
    try:
        for values in reader:
            if not values:
                continue  # a blank line
            if not names:
                names = [name.strip() for name in values]
                _check_columns(path, names, columns)
                continue
            where = f"row {reader.line_num}"
            if len(values) != len(names):
                raise ValueError(
                    f"{path} {where} has {len(values)} values and the header {len(names)}; write "
                    "one for each column, numbers with a decimal point and no thousands commas."
                )
            cells = dict(zip(names, values, strict=True))
            rows.append(Row(where, {name: cells[name].strip() for name in columns}))
    except csv.Error as error:
        raise ValueError(f"{path} line {reader.line_num} is not CSV: {error}.") from None
    return rows


def _parquet_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from None
    _check_columns(path, table.column_names, columns)
    for name in columns:
        kind = table.schema.field(name).type
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise ValueError(
                f"{path}: column {name!r} holds values of type {kind}; it needs one name or number "
                "a row."
            )
    records = table.select(list(columns)).to_pylist()
    return [Row(f"row {number}", record) for number, record in enumerate(records, start=1)]


def _check_columns(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    for separator, word in _SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            raise ValueError(
                f"{path} separates its columns with {word}; save it with commas between columns "
                "and points in decimals."
            )
    for column in columns:
        if column not in names:
            raise ValueError(
                f"{path} has no column {column!r}; its columns are {', '.join(names)}: rename the "
                "one that is meant (--size and --metric may also name others)."
            )
        if names.count(column) > 1:
            raise ValueError(f"{path} has {names.count(column)} columns {column!r}; keep one.")
