"""The next batch, read by a thread of its own while the current update runs."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from raysl.data.images import Images, Resized, Subset
from raysl.data.store import StoreImages


def worth_reading_ahead(images: Images, device: torch.device | str) -> bool:
    """Whether an update leaves cores free to read the next batch: a GPU's, of a store's images.

    On a processor the update keeps every core of the trial busy. Images held in memory or on the
    device are there at once.
    """
    while isinstance(images, Subset | Resized):
        images = images.images
    return torch.device(device).type == "cuda" and isinstance(images, StoreImages)


@contextmanager
def reading_ahead(
    images: Images, batches: Iterable[Tensor], *, device: torch.device | str
) -> Iterator[Images]:
    """`images` that will be asked for `batches` (int64 [B] each) in this order, for `device`.

    Where it is worth it the next batch is read while one is used, into pinned memory. What a read
    raises is raised when its batch is asked for. No thread is left after the block.
    """
    if not worth_reading_ahead(images, device):
        yield images
        return
    pinned = torch.device(device).type == "cuda"
    with ThreadPoolExecutor(1, thread_name_prefix="raysl reads ahead") as thread:
        yield _ReadAhead(images, iter(batches), thread, pinned=pinned)


class _ReadAhead:
    def __init__(
        self, images: Images, batches: Iterator[Tensor], thread: ThreadPoolExecutor, *, pinned: bool
    ):
        self.images = images
        self._batches = batches
        self._thread = thread
        self._pinned = pinned
        self._begin()

    @property
    def name(self) -> str:
        return self.images.name

    @property
    def digest(self) -> str:
        return self.images.digest

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def labels(self) -> Tensor:
        return self.images.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        """The images at `indices`, those of the next batch, as uint8 [B, C, S, S]."""
        assert self._indices is not None, "no more than the batches given"
        assert torch.equal(indices, self._indices), "in the order given"
        pixels = self._pixels.result()
        self._begin()
        return pixels

    def _begin(self) -> None:
        self._indices = next(self._batches, None)
        if self._indices is not None:
            self._pixels: Future[Tensor] = self._thread.submit(self._read, self._indices)

    def _read(self, indices: Tensor) -> Tensor:
        pixels = self.images.read(indices)
        return pixels.pin_memory() if self._pinned else pixels
