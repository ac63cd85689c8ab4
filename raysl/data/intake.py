"""The pass over all images of an import: what is stored, rejected, or seen before."""

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from raysl.data.prepare import Prepared, prepared
from raysl.data.records import Part
from raysl.data.split import GROUPS
from raysl.data.writer import Encoding, GroupWriter

# Images may repeat within one of these; between two of them the copy on the earlier side goes.
SIDES = {"pool": "train", "train": "train", "unlabelled": "train", "val": "val", "test": "test"}
REPORT_EVERY = 256  # images


class Intake:
    """Fills the groups of a store one after the other and keeps account of every image.

    groups: for every image of all parts in a row, its position in GROUPS, whose order (test,
    val, then training) decides which of two duplicates stays.
    """

    def __init__(
        self,
        parts: list[Part],
        groups: np.ndarray,
        *,
        keep_duplicates: bool,
        progress: Callable[[int, int], None] | None,
    ):
        self.parts = parts
        self.groups = groups
        self.keep_duplicates = keep_duplicates
        self.progress = progress
        self.rejected: list[tuple[str, ...]] = []  # split, image, reason
        self.duplicates: list[tuple[str, ...]] = []  # split, image, the same two, action
        self.num_done = 0
        self._starts = [0, *accumulate(len(part) for part in parts)]
        self._first_seen: dict[bytes, int] = {}  # pixel hash -> number of the image
        self._sums: dict[str, np.ndarray] = {}  # group -> int64 [2, C]
        self._counts: Counter[str] = Counter()
        self._colourful = False
        self._shape = (0, 0, 0)

    def fill(self, writer: GroupWriter, *, shape: tuple[int, int, int], encoding: Encoding) -> None:
        """Read, decode and write every image of the writer's group that is to be stored."""
        self._shape = shape
        code = GROUPS.index(writer.group)
        for start, part in zip(self._starts, self.parts, strict=False):
            positions = np.flatnonzero(self.groups[start : start + len(part)] == code)
            if not len(positions):
                continue
            results = prepared(
                part.read(positions),
                size=shape[1],
                channels=shape[0],
                encoding=encoding,
                threads=os.cpu_count() or 1,
            )
            for position, result in zip(positions.tolist(), results, strict=True):
                self._take(writer, start + position, int(part.labels[position]), result)

    def _take(self, writer: GroupWriter, number: int, label: int, result: Prepared | str) -> None:
        self.num_done += 1
        total = len(self.groups)
        if self.progress and (self.num_done % REPORT_EVERY == 0 or self.num_done == total):
            self.progress(self.num_done, total)
        group = writer.group
        if isinstance(result, str):
            self.rejected.append((group, self._origin(number), result))
            return
        first = self._first_seen.setdefault(result.pixel_hash, number)
        if first != number and self._repeats(group, number, first):
            return
        writer.add(result.content, label, result.content_hash)
        self._colourful = self._colourful or result.colourful
        self._counts[group] += 1
        self._sums[group] = self._sums.get(group, np.zeros_like(result.sums)) + result.sums

    def _repeats(self, group: str, number: int, first: int) -> bool:
        """Report a duplicate and say whether it is left out."""
        first_group = GROUPS[self.groups[first]]
        within = SIDES[first_group] == SIDES[group]
        removed = not within and not self.keep_duplicates
        action = "removed" if removed else "kept"
        row = (group, self._origin(number), first_group, self._origin(first), action)
        self.duplicates.append(row)
        return removed

    def check_rejected(self, max_rejected: float, *, source: str) -> None:
        """Raise if too many images cannot be read, or nothing is left."""
        total, count = len(self.groups), len(self.rejected)
        examples = "; ".join(f"{image}: {reason}" for _, image, reason in self.rejected[:3])
        if count == total:
            raise ValueError(f"None of the {total:,} images of {source} can be read ({examples}).")
        if count > max_rejected * total:
            raise ValueError(
                f"{count:,} of the {total:,} images of {source} cannot be read, more than the "
                f"{100 * max_rejected:g} % allowed ({examples}); repair or remove them, or raise "
                f"--max-rejected to {np.ceil(1e4 * count / total) / 1e4:g}."
            )

    def duplicate_counts(self) -> dict[str, int]:
        """Images that repeat an earlier one: within a split, across splits, and those removed."""
        across = [row for row in self.duplicates if SIDES[row[0]] != SIDES[row[2]]]
        return {
            "within_splits": len(self.duplicates) - len(across),
            "across_splits": len(across),
            "removed": sum(row[-1] == "removed" for row in across),
        }

    def statistics(self, groups: list[str]) -> dict[str, Any]:
        """Mean and standard deviation of each channel over `groups`, in units of 0 to 1."""
        channels, height, width = self._shape
        count = sum(self._counts[group] for group in groups) * height * width
        if not count:
            raise ValueError(
                "No image is left for the pool: all are of val or test, repeat images there, or "
                "cannot be read. Name a source with training images, or split it anew with "
                "--split random."
            )
        sums = np.stack([self._sums[group] for group in groups if self._counts[group]])
        total, squares = sums.sum(0) / count  # [C] each
        std = np.sqrt(np.maximum(squares - total**2, 0))
        notes = []
        if channels == 3 and not self._colourful:
            notes.append("no image has any colour: colour='grey' stores a third of the bytes")
        return {"mean": (total / 255).tolist(), "std": (std / 255).tolist(), "notes": notes}

    def _origin(self, number: int) -> str:
        part = bisect_right(self._starts, number) - 1
        return self.parts[part].origin(number - self._starts[part])
