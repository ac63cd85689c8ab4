"""Imports images into a store: read, decode and resize once, drop duplicates, write shards."""

import csv
import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from raysl import __version__
from raysl.config import unknown_name
from raysl.data.decode import is_grey
from raysl.data.digest import joint_digest, split_digest
from raysl.data.intake import Intake
from raysl.data.records import Part, Source
from raysl.data.sources import licence_text, open_source
from raysl.data.split import GROUPS, assign_groups, groups_of_splits
from raysl.data.staging import staged
from raysl.data.store import DUPLICATES, FORMAT, MANIFEST, REJECTED, VERSION
from raysl.data.writer import SHARD_BYTES, Encoding, GroupWriter

# Upper bounds of stored bytes per raw byte.
SIZE_FACTORS: dict[Encoding, float] = {"raw": 1.0, "png": 1.05, "jpeg": 0.7}


def import_images(
    source: str | Path,
    destination: str | Path,
    *,
    size: int,
    split: Literal["given", "random"] = "given",
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    encoding: Encoding = "raw",
    colour: Literal["grey", "rgb"] | None = None,
    max_rejected: float = 0.01,
    keep_duplicates: bool = False,
    name: str | None = None,
    licence: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    label_column: str | None = None,
    downloads: str | Path | None = None,
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Turn `source` into an image store at `destination` and return the store's manifest.

    source: a folder, IDX or Parquet files, "torchvision:NAME" or "sklearn:digits".
    size: side of the stored squares in pixels. split: "given" keeps the source's splits and makes
    a missing val or test from train, "random" makes both anew; by `seed`, stratified, as fractions
    of the labelled images. colour: None keeps grey if every image is stored as grey.
    max_rejected: share of images that may be unreadable. keep_duplicates: of val or test images
    in training splits, and of test images in val. licence: its text, or a Path to it.
    class_names: instead of the source's own, in its order. label_column: of Parquet files.
    downloads: folder in which torchvision's files are looked for and kept; None forgets them.
    shard_bytes: about how much one file of the store holds, and how much memory is used to fill it.
    progress: called with the images done and their total. Nothing is left behind by a failure.
    """
    _check_arguments(size, split, val_fraction, test_fraction, encoding, colour, max_rejected)
    destination = Path(destination).expanduser().resolve()
    with staged(destination, overwrite=overwrite) as folder, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        _check_source(source)
        fetched = Path(downloads).expanduser() if downloads else folder / "downloads"
        opened = open_source(source, downloads=fetched, split=split, label_column=label_column)
        classes = _classes(opened, class_names)
        groups, made = assign_groups(
            opened.parts,
            split=split,
            seed=seed,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
        )
        shape = (_channels(opened.parts, colour), size, size)
        _check_disk(destination.parent, len(groups) * int(np.prod(shape)), encoding)
        intake = Intake(opened.parts, groups, keep_duplicates=keep_duplicates, progress=progress)
        image_bytes = int(np.prod(shape)) if encoding == "raw" else None
        writers = {
            group: GroupWriter(folder, group, image_bytes=image_bytes, shard_bytes=shard_bytes)
            for group in GROUPS
        }
        for writer in writers.values():
            intake.fill(writer, shape=shape, encoding=encoding)
            writer.close()
        intake.check_rejected(max_rejected, source=str(source))
        _write_rows(folder / REJECTED, ("split", "image", "reason"), intake.rejected)
        _write_rows(
            folder / DUPLICATES,
            ("split", "image", "same_as_split", "same_as_image", "action"),
            intake.duplicates,
        )
        shutil.rmtree(folder / "downloads", ignore_errors=True)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "name": name or destination.name,
            "source": str(source),
            "licence": licence_text(source, licence),
            "raysl": __version__,
            "imported": datetime.now(UTC).isoformat(timespec="seconds"),
            "shape": list(shape),
            "encoding": encoding,
            "classes": list(classes),
            **_contents(writers, groups_of_splits(groups), classes, shape, encoding),
            **intake.statistics(groups_of_splits(groups)["pool"]),
            "split": {
                "policy": split,
                "seed": seed,
                "made": made,
                "val_fraction": val_fraction,
                "test_fraction": test_fraction,
            },
            "rejected": len(intake.rejected),
            "duplicates": intake.duplicate_counts(),
            "ignored_files": opened.num_ignored,
        }
        _write_manifest(folder / MANIFEST, manifest)
    return manifest


def _contents(
    writers: dict[str, GroupWriter],
    groups_of: dict[str, list[str]],
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    encoding: Encoding,
) -> dict[str, Any]:
    """The manifest's groups (with their shards), splits (with their digests) and digest."""
    groups = {group: writer.close() for group, writer in writers.items()}
    splits = {}
    for split, members in groups_of.items():
        labels = np.concatenate([np.empty(0, np.int64), *(writers[g].labels for g in members)])
        splits[split] = {
            "groups": members,
            "images": len(labels),
            "labelled": int((labels >= 0).sum()),
            "class_counts": np.bincount(labels[labels >= 0], minlength=len(classes)).tolist(),
            "digest": split_digest(
                b"".join(writers[g].image_hashes for g in members),
                labels,
                classes=classes,
                shape=shape,
                coding="jpeg" if encoding == "jpeg" else "pixels",
            ),
        }
    digest = joint_digest(str(splits[name]["digest"]) for name in ("pool", "train", "val", "test"))
    filled = {group: entry for group, entry in groups.items() if entry["images"]}
    return {"groups": filled, "splits": splits, "digest": digest}


def _check_source(source: str | Path) -> None:
    place = Path(source).expanduser()
    if (place / MANIFEST).is_file() and any(place.glob("*.arrow")):
        raise ValueError(
            f"{source} is an image store already: name it as the data of a study, or import its "
            "own source again to change the size."
        )


def _classes(source: Source, names: Sequence[str] | None) -> tuple[str, ...]:
    if not sum(len(part) for part in source.parts):
        raise ValueError("The source holds no images; name one that does.")
    if names is None:
        return source.classes
    if len(names) != len(source.classes) or len(set(names)) != len(names):
        raise ValueError(
            f"{len(names)} class names were given for the {len(source.classes)} classes "
            f"{', '.join(source.classes[:10])}; give each class one name of its own."
        )
    return tuple(names)


def _channels(parts: list[Part], colour: str | None) -> int:
    """1 if every image that can be read is stored without colour, else 3: a scan of headers."""
    if colour is not None:
        return {"grey": 1, "rgb": 3}[colour]
    everything = (image for part in parts for image in part.read(np.arange(len(part))))
    return 3 if any(is_grey(image) is False for image in everything) else 1


def _check_disk(folder: Path, raw_bytes: int, encoding: Encoding) -> None:
    needed = int(raw_bytes * SIZE_FACTORS[encoding]) + 2**20
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"The store needs up to {needed / 1e9:,.1f} GB and {folder} has {free / 1e9:,.1f} GB "
            "free; free some space, choose another place or a smaller --size."
        )


def _check_arguments(
    size: int,
    split: str,
    val_fraction: float,
    test_fraction: float,
    encoding: str,
    colour: str | None,
    max_rejected: float,
) -> None:
    for what, value, valid in (
        ("split", split, ("given", "random")),
        ("encoding", encoding, get_args(Encoding)),
        ("colour", colour or "grey", ("grey", "rgb")),
    ):
        if value not in valid:
            raise ValueError(unknown_name(what, value, valid))
    if size < 1:
        raise ValueError(f"size is {size}; give the side of the stored images in pixels.")
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction {val_fraction:g} and test_fraction {test_fraction:g} must not be "
            "negative and must leave something to train on; lower them."
        )
    if not 0 <= max_rejected <= 1:
        raise ValueError(f"max_rejected is {max_rejected:g}; give a share from 0 to 1.")


def _write_rows(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    if rows:
        with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([header, *rows])


def _write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Last, and by rename: a store with a manifest is complete."""
    partial = path.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
