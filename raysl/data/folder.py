"""Folders of image files: class folders, split folders above them, or one flat folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from raysl.data.decode import Encoded
from raysl.data.images import UNLABELLED
from raysl.data.records import SPLIT_NAMES, Part, Source

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".pbm"),
    *(".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
IGNORED_FOLDERS = ("__MACOSX",)


def folder_source(root: Path, *, split: Literal["given", "random"]) -> Source:
    """The images below `root`, sorted by path, with what their folders say.

    A folder that only wraps another is entered. Folders named like splits are splits, others are
    classes, with all that is below them; images beside the class folders have no label. With
    split="random" a folder named like a split beside others is a class.
    """
    files, num_ignored = image_files(root)
    if not files:
        raise ValueError(
            f"{root} holds no image files ({', '.join(SUFFIXES)}), IDX or Parquet files; "
            "name the folder that holds the images."
        )
    depth = _wrapping_folders(files)
    tops = {file[depth] for file in files if len(file) > depth + 1}
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    if splits and splits != tops and split == "given":
        others = sorted(tops - splits)
        raise ValueError(
            f"{root} has folders named like splits ({', '.join(sorted(splits))}) beside others "
            f"({', '.join(others[:5])}{', ...' if len(others) > 5 else ''}): move the others away, "
            "or import with --split random to take every folder as a class."
        )
    by_split = bool(splits) and splits == tops
    class_depth = depth + by_split

    grouped: dict[str, list[tuple[str, ...]]] = {}
    for file in files:
        named = by_split and len(file) > class_depth
        grouped.setdefault(SPLIT_NAMES[file[depth].lower()] if named else "train", []).append(file)
    classes = sorted(
        {
            file[class_depth]
            for name, members in grouped.items()
            if name != "unlabelled"
            for file in members
            if len(file) > class_depth + 1
        }
    )
    if len(classes) == 1:
        classes = []  # one folder for all tells nothing apart
    position = {name: i for i, name in enumerate(classes)}
    parts = []
    for name, members in grouped.items():
        labels = [
            position.get(file[class_depth], UNLABELLED)
            if name != "unlabelled" and len(file) > class_depth + 1
            else UNLABELLED
            for file in members
        ]
        parts.append(_files_part(name, root, ["/".join(file) for file in members], labels))
    return Source(parts, tuple(classes), num_ignored)


def image_files(root: Path) -> tuple[list[tuple[str, ...]], int]:
    """The paths of all image files below `root` as sorted tuples of names, and how many others."""
    files, num_ignored = [], 0
    seen = set()  # links to folders are followed, but not in circles
    for folder, subfolders, names in os.walk(root, followlinks=True):
        seen.add(os.path.realpath(folder))
        subfolders[:] = [
            name
            for name in subfolders
            if not name.startswith(".")
            and name not in IGNORED_FOLDERS
            and os.path.realpath(os.path.join(folder, name)) not in seen
        ]
        above = Path(folder).relative_to(root).parts
        images = [
            name
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
        num_ignored += len(names) - len(images)
        files += [(*above, name) for name in images]
    return sorted(files), num_ignored


def _wrapping_folders(files: list[tuple[str, ...]]) -> int:
    """How many folders from the top hold nothing but one folder that is no split."""
    depth = 0
    while all(len(file) > depth + 1 for file in files):
        names = {file[depth] for file in files}
        if len(names) > 1 or names.pop().lower() in SPLIT_NAMES:
            break
        depth += 1
    return depth


def _files_part(split: str, root: Path, files: list[str], labels: list[int]) -> Part:
    def read(positions: np.ndarray) -> Iterator[Encoded]:
        return (root / files[i] for i in positions)  # opened by whoever decodes

    return Part(split, np.array(labels, dtype=np.int64), read, lambda i: files[i])
