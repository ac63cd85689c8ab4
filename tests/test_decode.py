"""Every kind of image file becomes a square uint8 image by a stated rule, or a stated reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from raysl.data.decode import decode, is_grey

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
