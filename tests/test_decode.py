"""Every kind of image file becomes a square uint8 image by a stated rule, or a stated reason."""

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image

from raysl.data.decode import MOST_THREADS, decode, decode_stored, is_grey

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=2)  # [16, 16, 3]


def file(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(encoded: bytes | np.ndarray, *, channels: int, size: int = 16) -> np.ndarray:
    image = decode(encoded, size, channels=channels)
    assert isinstance(image, np.ndarray), image
    assert image.dtype == np.uint8
    assert image.shape == (channels, size, size)
    return image


def test_grey_and_colour_are_stored_as_they_are():
    assert (pixels(file(Image.fromarray(RAMP)), channels=1)[0] == RAMP).all()
    colour = pixels(file(Image.fromarray(COLOURS)), channels=3)
    assert (colour == COLOURS.transpose(2, 0, 1)).all()


def test_arrays_are_stored_as_they_are():
    assert (pixels(RAMP, channels=1)[0] == RAMP).all()
    assert (pixels(RAMP[:, :, None], channels=1)[0] == RAMP).all()
    assert (pixels(RAMP, channels=3) == RAMP).all()
    assert (pixels(COLOURS, channels=3) == COLOURS.transpose(2, 0, 1)).all()


def test_grey_becomes_three_equal_channels():
    assert (pixels(file(Image.fromarray(RAMP)), channels=3) == RAMP).all()


def test_colour_becomes_luma():
    luma = COLOURS @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pixels(file(Image.fromarray(COLOURS)), channels=1)[0] - luma).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_by_the_range_of_the_type(kind):
    dark = (RAMP.astype(np.uint16) * 257) // 4  # uses a quarter of the range
    image = pixels(file(Image.fromarray(dark), kind), channels=1)[0]
    assert np.abs(image - RAMP / 4).max() <= 0.5 + 1 / 257
    bright = np.full((16, 16), 65535, np.uint16)
    assert (pixels(file(Image.fromarray(bright), kind), channels=3) == 255).all()


def test_32_bits_are_accepted_in_a_known_range_only():
    tiff = [
        file(Image.fromarray(a), "TIFF") for a in (RAMP / np.float32(255), RAMP * np.int32(257))
    ]
    for encoded in tiff:
        assert np.abs(pixels(encoded, channels=1)[0].astype(int) - RAMP).max() <= 1
    outside = file(Image.fromarray(RAMP.astype(np.float32)), "TIFF")
    assert decode(outside, 16, channels=1) == (
        "float pixels of 0 to 255: only 0 to 1 has a fixed range"
    )
    broken = file(Image.fromarray(np.full((16, 16), np.nan, np.float32)), "TIFF")
    assert "float pixels of nan" in str(decode(broken, 16, channels=1))
    assert "only 8 and 16 bits" in str(
        decode(file(Image.fromarray(RAMP * np.int32(300)), "TIFF"), 16, channels=1)
    )


def test_one_bit_becomes_black_and_white():
    bits = Image.fromarray((RAMP > 100).astype(np.uint8) * 255).convert("1")
    assert (pixels(file(bits), channels=1)[0] == (RAMP > 100) * 255).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_palette_becomes_its_colours(kind):
    paletted = Image.fromarray(COLOURS // 64 * 64).convert("P", palette=Image.Palette.ADAPTIVE)
    expected = np.asarray(paletted.convert("RGB")).transpose(2, 0, 1)
    assert (pixels(file(paletted, kind), channels=3) == expected).all()
    assert is_grey(file(paletted, kind)) is False


def test_cmyk_becomes_rgb():
    image = Image.fromarray(np.full((16, 16, 3), (200, 40, 90), np.uint8)).convert("CMYK")
    colour = pixels(file(image, "JPEG", quality=95), channels=3)
    assert np.abs(colour.mean((1, 2)) - (200, 40, 90)).max() < 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_composited_on_black(mode):
    half = np.full((16, 16, 4), (200, 200, 200, 128), np.uint8)
    half[:, 8:, 3] = 0
    image = Image.fromarray(half)
    if mode == "PA":  # PNG keeps it as a palette with transparency
        encoded = file(image.quantize(4), "PNG")
        assert Image.open(io.BytesIO(encoded)).mode == "P"
    else:
        encoded = file(image.convert(mode))
    for channels in (1, 3):
        result = pixels(encoded, channels=channels)
        assert np.abs(result[:, :, :8].astype(int) - 100).max() <= 1
        assert (result[:, :, 8:] == 0).all()


def test_the_orientation_of_a_camera_is_honoured():
    turned = np.rot90(COLOURS)  # what a camera on its side stores
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate 90 degrees clockwise to display"
    encoded = file(Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif)
    assert (pixels(encoded, channels=3) == COLOURS.transpose(2, 0, 1)).all()


def test_the_centre_square_is_kept_and_the_shorter_side_becomes_the_size():
    wide = np.zeros((40, 100), np.uint8)
    wide[:, 30:70] = 200  # the centre square
    for image in (wide, wide.T.copy()):
        square = pixels(file(Image.fromarray(image)), channels=1, size=20)[0]
        assert (square[2:-2, 2:-2] == 200).all()  # at its edge the filter sees what is beyond
        assert square.min() > 150


def test_shrinking_is_antialiased():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    shrunk = pixels(file(Image.fromarray(stripes)), channels=1, size=32)
    assert np.abs(shrunk.astype(int) - 127).max() < 12


def test_a_large_jpeg_shrinks_to_the_same_image_as_its_pixels():
    yy, xx = np.mgrid[:600, :800]
    smooth = ((np.sin(xx / 37) + np.cos(yy / 23)) * 60 + 128).astype(np.uint8)
    encoded = file(Image.fromarray(smooth), "JPEG", quality=98)
    difference = pixels(encoded, channels=1, size=32).astype(int) - pixels(
        file(Image.fromarray(smooth)), channels=1, size=32
    )
    assert np.abs(difference).max() <= 4


@pytest.mark.parametrize(
    ("encoded", "grey"),
    [
        (file(Image.fromarray(RAMP)), True),
        (file(Image.fromarray(RAMP), "JPEG"), True),
        (file(Image.fromarray(RAMP.astype(np.uint16) * 257)), True),
        (file(Image.fromarray(RAMP).convert("P")), True),
        (file(Image.fromarray(COLOURS)), False),
        (file(Image.fromarray(COLOURS), "JPEG"), False),
        (b"nothing", None),
    ],
)
def test_the_header_tells_grey_from_colour(encoded, grey):
    assert is_grey(encoded) is grey


def bomb() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + (chunk(b"IEND", b""))
    )


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty file"),
        (None, "no image bytes"),
        (b"not an image", "not an image that Pillow can read"),
        (file(Image.fromarray(NOISE))[:-300], "OSError: image file is truncated"),
        (file(Image.fromarray(NOISE), "JPEG")[:-300], "OSError: image file is truncated"),
        (file(Image.fromarray(NOISE), "JPEG")[:200], "OSError: Truncated File Read"),
        (bomb(), "DecompressionBombError: Image size (3600000000 pixels) exceeds limit"),
    ],
)
def test_what_is_no_image_gets_a_reason(encoded, reason):
    result = decode(encoded, 16, channels=3)
    assert isinstance(result, str)
    assert result.startswith(reason)


def test_a_changed_byte_in_compressed_pixels_is_found():
    encoded = bytearray(file(Image.fromarray(NOISE // 16 * 16)))
    encoded[len(encoded) // 2] ^= 255
    assert isinstance(decode(bytes(encoded), 16, channels=3), str)


# Batches of a store


class Watched(np.ndarray):
    """Encoded bytes that remember which threads took them."""

    taken_by: set[int]

    def copy(self, order="C"):
        self.taken_by.add(threading.get_ident())
        return super().copy(order)


def stored(kind: str, *, channels: int, num_images: int = 37) -> list[np.ndarray]:
    """Encoded noise of 24 px, uint8 [bytes] each."""
    draw = np.random.default_rng(0)
    shape = (24, 24, 3) if channels == 3 else (24, 24)
    drawn = (draw.integers(0, 256, shape, dtype=np.uint8) for _ in range(num_images))
    return [np.frombuffer(file(Image.fromarray(pixels), kind), np.uint8) for pixels in drawn]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("threads", [1, 2, 3, 64])
def test_threads_decode_what_pillow_does_one_by_one(kind, channels, threads):
    encoded = stored(kind, channels=channels)
    out = np.zeros((len(encoded), channels, 24, 24), np.uint8)
    decode_stored(encoded, out, threads=threads)
    for content, image in zip(encoded, out, strict=True):
        alone = np.asarray(Image.open(io.BytesIO(content.tobytes())))
        assert (image == alone.reshape(24, 24, channels).transpose(2, 0, 1)).all()


@pytest.mark.parametrize(("num_images", "threads"), [(0, 2), (1, 2), (5, 8), (9, 2)])
def test_small_batches_are_decoded_too(num_images, threads):
    encoded = stored("PNG", channels=1, num_images=num_images)
    out = np.zeros((num_images, 1, 24, 24), np.uint8)
    decode_stored(encoded, out, threads=threads)
    assert out.any((1, 2, 3)).all()


@pytest.mark.parametrize("threads", [1, 2, 1000])
def test_no_more_threads_than_given_and_none_that_stay(threads):
    before = threading.active_count()
    encoded = [content.view(Watched) for content in stored("PNG", channels=3, num_images=64)]
    taken_by = set()
    for content in encoded:
        content.taken_by = taken_by
    decode_stored(encoded, np.empty((64, 3, 24, 24), np.uint8), threads=threads)
    assert 1 <= len(taken_by) <= min(threads, MOST_THREADS)
    assert (threads > 1) == (threading.get_ident() not in taken_by)
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_broken_image_of_a_batch_is_the_one_raised(threads):
    encoded = stored("JPEG", channels=3)
    encoded[30] = np.zeros(50, np.uint8)  # not an image at all
    encoded[20] = encoded[20][:-300]  # cut short
    with pytest.raises(ValueError, match="not enough image data"):
        decode_stored(encoded, np.empty((37, 3, 24, 24), np.uint8), threads=threads)
