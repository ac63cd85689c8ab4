"""Writes the shards of an image store: Arrow IPC files of one record batch each."""

from array import array
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raysl.data.digest import file_hash

Encoding = Literal["raw", "png", "jpeg"]
SHARD_BYTES = 64 * 2**20


class GroupWriter:
    """The images of one group, appended in order; a shard is held in memory until it is full.

    image_bytes: C * S * S for raw pixels, None for encoded images.
    """

    def __init__(
        self, folder: Path, group: str, *, image_bytes: int | None, shard_bytes: int = SHARD_BYTES
    ):
        self.folder = folder
        self.group = group
        self.image_bytes = image_bytes
        self.shard_bytes = shard_bytes
        self.labels = array("q")
        self.image_hashes = bytearray()
        self.shards: list[dict[str, Any]] = []
        self._contents: list[bytes] = []
        self._size = 0

    def add(self, content: bytes, label: int, image_hash: bytes) -> None:
        """Append one image: its pixels [C, S, S] or its encoded bytes."""
        assert self.image_bytes in (None, len(content)), "raw images have one size"
        self._contents.append(content)
        self._size += len(content)
        self.labels.append(label)
        self.image_hashes += image_hash
        if self._size >= self.shard_bytes:
            self._flush()

    def close(self) -> dict[str, Any]:
        """Write what is left and return the group's entry in the manifest."""
        if self._contents:
            self._flush()
        return {"images": len(self.labels), "shards": self.shards}

    def _flush(self) -> None:
        import pyarrow as pa

        num_images = len(self._contents)
        if self.image_bytes is None:
            images = pa.array(self._contents, pa.binary())
        else:
            pixels = pa.py_buffer(b"".join(self._contents))
            kind = pa.binary(self.image_bytes)
            images = pa.FixedSizeBinaryArray.from_buffers(kind, num_images, [None, pixels])
        labels = pa.array(np.array(self.labels[-num_images:]))
        batch = pa.record_batch([images, labels], names=["image", "label"])
        path = self.folder / f"{self.group}-{len(self.shards):05d}.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
        self.shards.append(
            {
                "file": path.name,
                "images": num_images,
                "bytes": path.stat().st_size,
                "sha256": file_hash(path),
            }
        )
        self._contents.clear()
        self._size = 0
