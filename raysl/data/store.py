"""Image stores: Arrow shards plus a manifest, opened memory-mapped.

A store is a folder of `GROUP-00000.arrow` files (one record batch each: `image`, fixed-size binary
pixels [C, S, S] or encoded bytes, and `label`, int64), `manifest.json`, and `rejected.csv` and
`duplicates.csv` where the import found any. Its manifest is written last, so a store with one is
complete. The processes of one machine share the mapped pages.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysl.data.decode import decode_stored
from raysl.data.digest import file_hash
from raysl.data.digits import digits_splits
from raysl.data.images import Splits
from raysl.data.sources import TORCHVISION, check_built_in

MANIFEST, REJECTED, DUPLICATES = "manifest.json", "rejected.csv", "duplicates.csv"
FORMAT, VERSION = "raysl images", 1


def load_splits(source: str | Path) -> Splits:
    """Open an image store, memory-mapped, or the built-in "sklearn:digits"."""
    name = str(source)
    if name.startswith("sklearn:"):
        check_built_in(name)
        return digits_splits()
    if name.startswith(TORCHVISION):
        raise ValueError(
            f"{name} has to be imported first: `raysl data import {name} DEST --size 32`, then "
            "name DEST."
        )
    store = Path(source).expanduser().resolve()
    manifest = read_manifest(store)
    check_shards(store, manifest)
    groups = {name: open_group(store, manifest, name) for name in manifest["groups"]}
    pool, train, val, test = (
        StoreImages(store, manifest, split, groups) for split in ("pool", "train", "val", "test")
    )
    return Splits(pool, train, val, test, source=str(source))


@dataclass(frozen=True)
class Shard:
    """One mapped file: its labels, and its pixels or its encoded bytes."""

    labels: np.ndarray  # int64 [n]
    data: np.ndarray  # uint8 [n, C * S * S], or all encoded bytes in a row
    offsets: np.ndarray | None  # int32 [n + 1] into encoded bytes

    def image(self, i: int) -> np.ndarray:
        """The pixels or the encoded bytes of one image, uint8 [bytes], not copied."""
        if self.offsets is None:
            return self.data[i]
        return self.data[self.offsets[i] : self.offsets[i + 1]]


class StoreImages:
    """One split of a store. Pickled by its path, and opened again where it arrives."""

    def __init__(
        self,
        store: Path,
        manifest: dict[str, Any],
        split: str,
        groups: dict[str, list[Shard]],
    ):
        entry = manifest["splits"][split]
        self.store = store
        self.split = split
        self.name = f"{manifest['name']}/{split}"
        self.digest: str = entry["digest"]
        self.classes: tuple[str, ...] = tuple(manifest["classes"])
        channels, height, width = manifest["shape"]
        self.shape: tuple[int, int, int] = (channels, height, width)
        self._shards = [s for g in entry["groups"] for s in groups.get(g, [])]
        counts = [len(shard.labels) for shard in self._shards]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._starts = self._ends - np.array(counts, np.int64)
        self._encoded = manifest["encoding"] != "raw"
        columns = [np.empty(0, np.int64), *(shard.labels for shard in self._shards)]
        self.labels: Tensor = torch.from_numpy(np.concatenate(columns))  # [N]
        assert len(self.labels) == entry["images"], "the manifest counts what the shards hold"

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.store, self.split, self.digest)

    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices` (int64 [B]) as uint8 [B, C, S, S].

        Encoded ones are decoded by as many threads as PyTorch computes with.
        """
        at = indices.cpu().numpy()
        assert at.ndim == 1, "one row of positions"
        assert not len(at) or 0 <= at.min() <= at.max() < len(self), "positions of this split"
        shard_of = np.searchsorted(self._ends, at, side="right")
        inside = at - self._starts[shard_of]
        # One by one: a batch has a few images of each shard, and NumPy copies without the lock.
        stored = [
            self._shards[number].image(i)
            for number, i in zip(shard_of.tolist(), inside.tolist(), strict=True)
        ]
        if self._encoded:
            out = np.empty((len(at), *self.shape), np.uint8)
            decode_stored(stored, out, threads=torch.get_num_threads())
        else:
            out = np.concatenate([*stored, np.empty(0, np.uint8)]).reshape(len(at), *self.shape)
        return torch.from_numpy(out)  # [B, C, S, S]


def read_manifest(store: Path) -> dict[str, Any]:
    """The manifest of the store, or one sentence about why this is none."""
    make = f"make a store with `raysl data import SOURCE {store} --size SIZE`."
    if not store.exists():
        raise FileNotFoundError(f"There is no image store {store}; {make}")
    if not store.is_dir():
        raise ValueError(
            f"{store} is a file and no image store; `raysl data import {store} DEST --size SIZE` "
            "makes one of it if it holds images."
        )
    path = store / MANIFEST
    if not path.is_file():
        state = (
            "has no manifest.json, so it is no image store"
            if any(store.iterdir())
            else ("is empty")
        )
        raise ValueError(
            f"{store} {state}; if it holds images, `raysl data import {store} DEST --size SIZE` "
            "makes a store of them, then name DEST."
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        kind = manifest["format"], manifest["version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        kind = (None, None)
    if kind[0] != FORMAT:
        raise ValueError(
            f"{path} is damaged or belongs to something else; import the images again."
        )
    if kind[1] != VERSION:
        raise ValueError(
            f"{store} has format version {kind[1]} and this raysl reads {VERSION}; import the "
            "images again, or use the raysl that made it."
        )
    return manifest


def check_shards(store: Path, manifest: dict[str, Any], *, hashes: bool = False) -> None:
    """Raise if a shard is missing or has another size, or, with `hashes`, other content."""
    for shard in (s for group in manifest["groups"].values() for s in group["shards"]):
        path = store / shard["file"]
        fault = None
        if not path.is_file():
            fault = "is missing"
        elif path.stat().st_size != shard["bytes"]:
            fault = f"has {path.stat().st_size:,} bytes instead of {shard['bytes']:,}"
        elif hashes and file_hash(path) != shard["sha256"]:
            fault = "has changed since the import"
        if fault:
            raise ValueError(
                f"{path} {fault}; copy the store again, or import it again with --overwrite."
            )


def open_group(store: Path, manifest: dict[str, Any], group: str) -> list[Shard]:
    """Map the shards of one group; nothing but labels and structure is read."""
    shards = manifest["groups"][group]["shards"]
    encoded = manifest["encoding"] != "raw"
    return [_open_shard(store / shard["file"], encoded=encoded) for shard in shards]


def _open_shard(path: Path, *, encoded: bool) -> Shard:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:  # closes the file; the pages stay mapped
            batch = pa.ipc.open_file(file).get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); import the images again.") from None
    images = batch.column("image")
    labels = batch.column("label").to_numpy()
    if not encoded:
        pixels = np.frombuffer(images.buffers()[1], np.uint8)
        width = images.type.byte_width
        return Shard(labels, pixels[: len(labels) * width].reshape(-1, width), None)
    _, offsets, data = images.buffers()
    return Shard(
        labels,
        np.frombuffer(data, np.uint8),
        np.frombuffer(offsets, np.int32)[: len(labels) + 1],
    )


def _reopen(store: Path, split: str, digest: str) -> "StoreImages":
    manifest = read_manifest(store)
    entry = manifest["splits"][split]
    if entry["digest"] != digest:
        raise ValueError(f"{store} was replaced while in use; start again.")
    check_shards(store, manifest)
    groups = {name: open_group(store, manifest, name) for name in entry["groups"]}
    return StoreImages(store, manifest, split, groups)
