"""From encoded images to what a store keeps of them, in threads and in order."""

import io
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from PIL import Image

from raysl.data.decode import Encoded, decode
from raysl.data.digest import image_hash
from raysl.data.writer import Encoding

JPEG_QUALITY = 95  # with full colour resolution (4:4:4)
CHUNK = 64  # images per task


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image, ready to be stored.

    content: raw pixels [C, S, S] or encoded bytes. pixel_hash finds duplicates; content_hash
    enters the digest. sums: of the pixels and of their squares, int64 [2, C].
    """

    content: bytes
    pixel_hash: bytes
    content_hash: bytes
    sums: np.ndarray
    colourful: bool


def prepared(
    images: Iterable[Encoded], *, size: int, channels: int, encoding: Encoding, threads: int
) -> Iterator[Prepared | str]:
    """Every image in order, or the reason why it is rejected; only a few chunks are in memory."""
    work = partial(_prepare, size=size, channels=channels, encoding=encoding)
    remaining = iter(images)
    pending: deque[Future[list[Prepared | str]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        while chunk := list(islice(remaining, CHUNK)):
            pending.append(pool.submit(work, chunk))
            if len(pending) > 2 * threads:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _prepare(
    chunk: list[Encoded], *, size: int, channels: int, encoding: Encoding
) -> list[Prepared | str]:
    decoded = [decode(encoded, size, channels=channels) for encoded in chunk]
    good = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
    if not good:
        return [result for result in decoded if isinstance(result, str)]
    flat = np.stack(good).reshape(len(good), channels, -1)  # [n, C, S * S]
    squares = np.square(flat, dtype=np.uint32)
    sums = np.stack([flat.sum(2, dtype=np.int64), squares.sum(2, dtype=np.int64)], 1)  # [n, 2, C]
    colourful = (flat != flat[:, :1]).any((1, 2))  # [n]
    ready = iter(
        _pack(pixels, encoding, s, bool(c))
        for pixels, s, c in zip(good, sums, colourful, strict=True)
    )
    return [result if isinstance(result, str) else next(ready) for result in decoded]


def _pack(pixels: np.ndarray, encoding: Encoding, sums: np.ndarray, colourful: bool) -> Prepared:
    raw = pixels.tobytes()
    pixel_hash = image_hash(raw)
    if encoding == "raw":
        return Prepared(raw, pixel_hash, pixel_hash, sums, colourful)
    file = io.BytesIO()
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    if encoding == "png":
        image.save(file, "PNG")
        return Prepared(file.getvalue(), pixel_hash, pixel_hash, sums, colourful)
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    content = file.getvalue()
    return Prepared(content, pixel_hash, image_hash(content), sums, colourful)
