"""Parquet files with an image column, as Hugging Face and others write them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from raysl.config import unknown_name
from raysl.data.decode import Encoded
from raysl.data.images import UNLABELLED
from raysl.data.records import SPLIT_NAMES, Part, Source, index_labels

IMAGE_COLUMNS = ("image", "img", "images", "picture", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "target", "y", "cls")
BATCH = 256  # rows


def parquet_files(place: Path) -> list[Path]:
    """The Parquet files below a folder, or the file itself if it is one."""
    if not place.is_dir():
        return [place] if place.suffix.lower() in (".parquet", ".pq") else []
    found = [p for pattern in ("*.parquet", "*.pq") for p in place.rglob(pattern)]
    return sorted(
        p for p in found if not any(x.startswith(".") for x in p.relative_to(place).parts)
    )


def parquet_source(place: Path, *, label_column: str | None = None) -> Source:
    """Parquet files with `image: {bytes, path}` or `image: binary`, and a label where there is one.

    The split of a file is read from its name (train-00000-of-00002) or its folder's. Class names
    are those of a Hugging Face ClassLabel, else the sorted label values.
    """
    files = parquet_files(place)
    columns, names = [], None
    for path in files:
        with _open(path) as parquet:
            labels = _label_column(parquet.schema_arrow, path, label_column)
            names = names or _class_names(parquet.schema_arrow, labels)
            columns.append(_label_values(parquet, labels))
    indexed, classes = index_labels(columns, names)
    root = place if place.is_dir() else place.parent
    parts = [_part(path, root, labels) for path, labels in zip(files, indexed, strict=True)]
    return Source(parts, classes)


def split_of(path: Path, root: Path) -> str:
    """The split that a file's name or, failing that, its nearest folder's name speaks of."""
    for name in (path.stem, *reversed(path.relative_to(root).parts[:-1])):
        token = re.split(r"[^a-z0-9]+", name.lower())[0]
        if token in SPLIT_NAMES:
            return SPLIT_NAMES[token]
    return "train"


def _part(path: Path, root: Path, labels: np.ndarray) -> Part:
    with _open(path) as parquet:
        column = _image_column(parquet.schema_arrow, path)

    def read(positions: np.ndarray) -> Iterator[Encoded]:
        wanted, start = np.asarray(positions), 0
        with _open(path) as parquet:
            for group in range(parquet.num_row_groups):
                end = start + parquet.metadata.row_group(group).num_rows
                inside = wanted[(wanted >= start) & (wanted < end)] - start
                if len(inside):  # groups without wanted rows are not read
                    yield from _rows(parquet, group, column, inside)
                start = end

    relative = path.relative_to(root).as_posix()
    return Part(split_of(path, root), labels, read, lambda i: f"{relative} row {i}")


def _rows(parquet: Any, group: int, column: str, wanted: np.ndarray) -> Iterator[Encoded]:
    import pyarrow as pa

    start = 0
    for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=[column]):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = values.field("bytes")
        for i in wanted[(wanted >= start) & (wanted < start + len(values))] - start:
            yield values[int(i)].as_py()
        start += len(values)


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pa.parquet.ParquetFile(path, memory_map=True)
    except pa.ArrowInvalid as error:
        reason = str(error).rstrip(".").split("\n")[0]
        raise ValueError(f"{path} is no readable Parquet file ({reason}).") from None


def _image_column(schema: Any, path: Path) -> str:
    import pyarrow as pa

    def is_binary(kind: Any) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    candidates = [
        field.name
        for field in schema
        if is_binary(field.type)
        or (
            pa.types.is_struct(field.type)
            and field.type.get_field_index("bytes") >= 0
            and is_binary(field.type.field("bytes").type)
        )
    ]
    known = [name for name in IMAGE_COLUMNS if name in candidates]
    if known or len(candidates) == 1:
        return (known or candidates)[0]
    found = f"several ({', '.join(candidates)})" if candidates else "none"
    raise ValueError(
        f"{path} needs one image column, binary or a struct with `bytes`, and has {found} among "
        f"{', '.join(schema.names)}; name it `image`."
    )


def _label_column(schema: Any, path: Path, asked: str | None) -> str | None:
    import pyarrow as pa

    if asked is not None and asked not in schema.names:
        raise ValueError(unknown_name("column", asked, schema.names, str(path)))
    name = asked or next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if name is None:
        return None
    kind = schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(f(kind) for f in (pa.types.is_integer, pa.types.is_boolean, *_text_types())):
        raise ValueError(
            f"The label column {name!r} of {path} holds {kind}; one whole number or text per image "
            "can be imported, so convert it or name another column with --label-column."
        )
    return name


def _text_types() -> tuple[Any, ...]:
    import pyarrow as pa

    return pa.types.is_string, pa.types.is_large_string, pa.types.is_null


def _label_values(parquet: Any, column: str | None) -> list[Any]:
    if column is None:
        return [UNLABELLED] * parquet.metadata.num_rows
    values: list[Any] = parquet.read(columns=[column]).column(0).to_pylist()
    return values


def _class_names(schema: Any, column: str | None) -> list[str] | None:
    """The names that Hugging Face's ClassLabel keeps in the schema's metadata."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None or column is None:
        return None
    feature = json.loads(stored).get("info", {}).get("features", {}).get(column, {})
    names = feature.get("names") if isinstance(feature, dict) else None
    return [str(name) for name in names] if names else None
