"""Pictures as CVAT sends them: what its viewer shows is what the model gets, and nothing is decoded twice."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

import cvat_nuclio.pictures as pictures_module
from cvat_nuclio.pictures import Pictures, as_shown, png_of
from cvat_nuclio.sdk_function import encoded
from sam3_core import EncodedImage
from sam3_core.errors import BrokenImage, TooLarge
from sam3_core.images import decode

RNG = np.random.default_rng(3)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
MOST = 100.0


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def shown(data: bytes) -> NDArray[np.uint8]:
    """What the model gets."""
    return decode(Pictures(max_megapixels=MOST).read(text_of(data)).image.data, max_megapixels=MOST)


def viewer_grey(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """CVAT's rule for sixteen bits, from the contract: stretched, cut to whole numbers, equalised."""
    wide = values.astype(np.float64)
    stretched = ((wide - wide.min()) / (wide.max() - wide.min()) * 255).astype(np.uint8)
    return np.asarray(ImageOps.equalize(Image.fromarray(stretched)))


def turned(image: Image.Image, orientation: int) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return {"exif": exif.tobytes()}


def test_a_picture_seen_before_is_decoded_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    data = file_of(Image.fromarray(RGB))
    pictures = Pictures(max_megapixels=MOST)
    first = pictures.read(text_of(data))
    assert (first.image.key, first.size) == (EncodedImage(data).key, (9, 6))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(base64, "b64decode", never)
        patch.setattr(pictures_module, "opened", never)
        again = pictures.read(text_of(data))
        assert (again.image.key, again.size) == (first.image.key, first.size)
    assert again.image.data == data  # where a server asks for it after all


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text_of(file_of(Image.new("L", (side, 1)))) for side in (1, 2, 3)]
    pictures = Pictures(max_megapixels=MOST, remembered=2)
    read: list[int] = []
    real = pictures_module.as_shown
    monkeypatch.setattr(pictures_module, "as_shown", lambda *a, **k: read.append(1) or real(*a, **k))
    for number in (0, 1, 0, 2, 0, 1):  # 0 is used again, so 1 goes
        pictures.read(texts[number])
    assert len(read) == 4


def test_ordinary_files_go_on_as_they_are() -> None:
    image = Image.fromarray(RGB)
    alpha = Image.fromarray(np.dstack([RGB, RGB[..., 0]]))
    files = [
        file_of(image),
        file_of(image, "JPEG"),
        file_of(image.convert("CMYK"), "JPEG"),
        file_of(image.quantize(8)),
        file_of(alpha),
        file_of(image, "JPEG", **turned(image, 6)),
        file_of(image, "WEBP"),
        file_of(image.convert("1")),
        file_of(image.convert("L"), "TIFF"),
        file_of(Image.new("RGB", (1, 1), "red")),
    ]
    for data in files:
        assert as_shown(data, max_megapixels=MOST) is data


def test_exif_is_applied_to_every_kind() -> None:
    image = Image.fromarray(RGB)
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(shown(file_of(image, **turned(image, 6))), upright)
    np.testing.assert_array_equal(shown(file_of(image, "WEBP", lossless=True, **turned(image, 6))), upright)
    np.testing.assert_array_equal(shown(file_of(image, "TIFF", **turned(image, 6))), upright)
    deep = Image.fromarray(RGB[..., 0].astype(np.uint16) * 7)
    grey = viewer_grey(np.rot90(RGB[..., 0], -1))
    np.testing.assert_array_equal(shown(file_of(deep, **turned(deep, 6)))[..., 0], grey)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_stretched_and_equalised(kind: str) -> None:
    values = RNG.integers(1000, 1400, (40, 30)).astype(np.uint16)
    pixels = shown(file_of(Image.fromarray(values), kind))
    np.testing.assert_array_equal(pixels, np.repeat(viewer_grey(values)[..., None], 3, axis=2))
    assert pixels.max() > 250  # browsers show the high byte: nearly black
    assert decode(file_of(Image.fromarray(values)), max_megapixels=MOST).max() < 6


def test_big_endian_sixteen_bits() -> None:
    values = RNG.integers(0, 60000, (8, 8)).astype(np.uint16)
    image = Image.frombytes("I;16B", (8, 8), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(shown(file_of(image, "TIFF"))[..., 0], viewer_grey(values))


def test_thirty_two_bits_end_at_the_greatest_value() -> None:
    values = np.array([[0, 100, 500, 1000]], dtype=np.int32)
    np.testing.assert_array_equal(shown(file_of(Image.fromarray(values), "TIFF"))[0, :, 0], [0, 25, 128, 255])


def test_floats_with_holes_in_them() -> None:
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0], values[3, 3] = np.nan, np.inf
    pixels = shown(file_of(Image.fromarray(values), "TIFF"))[..., 0]
    assert pixels[0, 0] == pixels[3, 3] == pixels.min()
    assert pixels[7, 7] > 250


@pytest.mark.parametrize("values", [np.full((3, 4), 700, np.uint16), np.full((3, 4), -5, np.int32),
                                    np.full((3, 4), np.nan, np.float32), np.zeros((1, 1), np.int32)])  # fmt: skip
def test_one_value_alone_is_a_picture(values: NDArray[np.generic]) -> None:
    assert shown(file_of(Image.fromarray(values), "TIFF")).shape == (*values.shape, 3)


def test_what_is_transparent_lies_on_white() -> None:
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (shown(file_of(Image.fromarray(clear))) == 255).all()


@pytest.mark.parametrize(
    "text",
    ["!", "abc", "ä", "\ud800", "", "data:image/png;base64,AAAA", text_of(b"hello"), text_of(b"\x89PNG\r\n\x1a\n")],
)
def test_what_is_no_picture(text: str) -> None:
    with pytest.raises(BrokenImage):
        Pictures(max_megapixels=MOST).read(text)


def test_a_damaged_deep_picture() -> None:
    data = file_of(Image.fromarray(RNG.integers(0, 60000, (50, 50)).astype(np.uint16)))
    with pytest.raises(BrokenImage):
        Pictures(max_megapixels=MOST).read(text_of(data[: len(data) // 2]))


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(TooLarge):
        Pictures(max_megapixels=0.001).read(text_of(file_of(Image.new("I;16", (100, 100)))))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "RGBa"])
def test_images_of_every_mode_become_png(mode: str) -> None:
    base = Image.fromarray(RGB)
    image = Image.fromarray(RGB[..., 0].astype(np.uint16)) if mode == "I;16" else _converted(base, mode)
    data = png_of(image)
    assert decode(data, max_megapixels=MOST).shape == RGB.shape
    if mode not in {"I", "F", "I;16"}:
        expected = np.asarray(image.convert("RGB" if mode != "RGBa" else "RGBA").convert("RGB"))
        np.testing.assert_array_equal(decode(data, max_megapixels=MOST), expected)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return (image.convert("RGBA") if mode == "RGBa" else image).convert(mode)


def test_a_key_stands_for_what_is_shown() -> None:
    image = Image.fromarray(RGB)
    other = RGB.copy()
    other[3, 4, 1] ^= 1
    turning = image.copy()
    turning.getexif()[0x0112] = 6
    palette = image.quantize(8)
    swapped = palette.copy()
    swapped.putpalette(bytes(reversed(palette.getpalette() or [])))
    distinct = [image, Image.fromarray(other), turning, image.convert("L"), palette, swapped]
    keys = [encoded(one).key for one in distinct]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)
    assert encoded(Image.fromarray(RGB.copy())).key == keys[0]
    wide, high = (encoded(Image.frombytes("L", size, bytes(54))) for size in ((9, 6), (6, 9)))
    assert wide.key != high.key
