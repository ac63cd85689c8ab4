"""One file, byte string or array as a square uint8 image, or the reason why it is none.

The centre square is resized to `size` in one antialiased bicubic step. EXIF orientation is honoured
and colour profiles are ignored; of several frames the first counts. Converted explicitly:
    transparency              composited on black
    palette, CMYK, others     to RGB
    1 bit                     to 0 and 255
    16-bit grey               65,535 becomes 255, by the range of the type, not of the image
    32-bit grey               integers of 0-65,535 as 16-bit, floats of 0-1 times 255, else rejected
    grey to colour            repeated three times
    colour to grey            Rec. 601 luma
"""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Encoded = Path | bytes | np.ndarray | None  # an array is uint8 [H, W] or [H, W, C]; None: no image
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
MOST_THREADS = 8  # Pillow has Python's lock a seventh of a JPEG's time, a thirtieth of a PNG's
JPEG_START = b"\xff\xd8"
IMAGES_PER_THREAD = 4  # a thread costs about as much as one small image
CHUNKS_PER_THREAD = 4  # so that no thread waits long for the last one
DRAFT_SCALE = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves twice the final size


def decode(encoded: Encoded, size: int, *, channels: int) -> np.ndarray | str:
    """The image as uint8 [C, S, S], or one sentence that says why it cannot be had."""
    if isinstance(encoded, np.ndarray):
        if encoded.shape[:2] == (size, size) and encoded[0, 0].size == channels:
            return np.ascontiguousarray(encoded.reshape(size, size, channels).transpose(2, 0, 1))
        image = Image.fromarray(encoded.squeeze())
    else:
        opened = _open(encoded, draft=DRAFT_SCALE * size)
        if isinstance(opened, str):
            return opened
        image = opened
    converted = to_8_bit(image, channels)
    if isinstance(converted, str):
        return converted
    pixels = np.asarray(to_square(converted, size))  # [S, S] or [S, S, 3]
    return np.ascontiguousarray(pixels.reshape(size, size, channels).transpose(2, 0, 1))


def decode_stored(encoded: Sequence[np.ndarray], out: np.ndarray, *, threads: int) -> None:
    """Decode images of a store (uint8 [bytes] each) into `out`, uint8 [B, C, S, S].

    Raises what Pillow raises for the first image that cannot be decoded.
    """
    threads = min(threads, MOST_THREADS, len(encoded) // IMAGES_PER_THREAD)
    if threads <= 1:
        _decode_stored(encoded, out)
        return
    size = -(-len(encoded) // (threads * CHUNKS_PER_THREAD))
    starts = range(0, len(encoded), size)
    with ThreadPoolExecutor(threads) as pool:
        chunks = [
            pool.submit(_decode_stored, encoded[i : i + size], out[i : i + size]) for i in starts
        ]
        for chunk in chunks:
            chunk.result()


def _decode_stored(encoded: Sequence[np.ndarray], out: np.ndarray) -> None:
    channels, height, width = out.shape[1:]
    mode = _mode(channels)
    for content, pixels in zip(encoded, out, strict=True):
        data = content.copy().data  # by NumPy, which lets others run while pages come from a disk
        if data[:2] == JPEG_START:
            # Of known size and mode: Image.open would read its markers in Python.
            image = Image.frombytes(mode, (width, height), data, "jpeg", mode, "")
        else:
            image = Image.open(io.BytesIO(data))
        array = np.asarray(image)  # [S, S] or [S, S, 3]
        pixels[:] = array.reshape(height, width, channels).transpose(2, 0, 1)


def _mode(channels: int) -> str:
    """Pillow's name of an image of so many channels."""
    return "L" if channels == 1 else "RGB"


def is_grey(encoded: Encoded) -> bool | None:
    """Whether the image is stored without colour, from its header; None if it cannot be read."""
    if isinstance(encoded, np.ndarray):
        return encoded.ndim == 2 or encoded.shape[2] == 1
    image = _open(encoded, load=False)
    if isinstance(image, str):
        return None
    if image.mode in ("P", "PA"):
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY_MODES


def to_8_bit(image: Image.Image, channels: int) -> Image.Image | str:
    """The image in mode L or RGB, or the reason why its values have no fixed range."""
    mode = _mode(channels)
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        if image.mode == "F":
            if not (low >= 0 and high <= 1):  # also refuses NaN
                return f"float pixels of {low:g} to {high:g}: only 0 to 1 has a fixed range"
            values = values * 65535
        elif low < 0 or high > 65535:
            return f"{image.mode} pixels of {low} to {high}: only 8 and 16 bits have a fixed range"
        image = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    elif image.mode == "P":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def to_square(image: Image.Image, size: int) -> Image.Image:
    """The centre square, resized: the shorter side becomes `size`, the longer one is cropped."""
    width, height = image.size
    if width == height == size:
        return image
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def _open(encoded: Path | bytes | None, *, load: bool = True, draft: int = 0) -> Image.Image | str:
    if encoded is None:
        return "no image bytes"
    try:
        if not load and isinstance(encoded, Path):
            with Image.open(encoded) as image:  # reads the header only
                return image
        content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
        if not content:
            return "empty file"
        image = Image.open(io.BytesIO(content))
        if load:
            if min(image.size) > draft:
                image.draft(None, (draft, draft))  # keeps the mode
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError:
        return "not an image that Pillow can read"
    except Exception as error:  # whatever a decoder raises on broken bytes is the reason
        return " ".join(f"{type(error).__name__}: {error}".split())
    return image
