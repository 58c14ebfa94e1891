"""Pictures of every kind, decoded as a browser shows them, and everything that is no picture."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_strategies import encoded
from PIL import Image, ImageFile

from sam3_core import images
from sam3_core.errors import BrokenImage, TooLarge
from sam3_core.images import EncodedImage, decode, displayed_size

# Readers grumble about what they then refuse.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]

RED, GREEN, BLUE, WHITE = [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]


def _corners() -> np.ndarray:
    """Four plain quarters, 48 wide and 32 high: red and green above, blue and white below."""
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:16, :24], pixels[:16, 24:], pixels[16:, :24], pixels[16:, 24:] = RED, GREEN, BLUE, WHITE
    return pixels


CORNERS = _corners()
PICTURE = Image.fromarray(CORNERS)
LOSSLESS: dict[str, tuple[str, dict[str, object]]] = {
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-big": ("TIFF", {"big_tiff": True}),
    "bmp": ("BMP", {}),
}


def _seen(data: bytes) -> np.ndarray:
    pixels = decode(data, max_megapixels=1)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.writeable
    assert displayed_size(data, max_megapixels=1) == pixels.shape[1::-1]
    return pixels


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(("kind", "options"), LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_formats_give_the_very_pixels(kind: str, options: dict[str, object]) -> None:
    assert np.array_equal(_seen(encoded(PICTURE, kind, **options)), CORNERS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_other_formats_come_close(kind: str) -> None:
    pixels = _seen(encoded(PICTURE, kind))[4::8, 4::8].astype(int)
    assert np.abs(pixels - CORNERS[4::8, 4::8]).max() < 24


ORIENTED = {
    1: CORNERS,
    2: CORNERS[:, ::-1],
    3: CORNERS[::-1, ::-1],
    4: CORNERS[::-1],
    5: CORNERS.transpose(1, 0, 2),
    6: np.rot90(CORNERS, -1),
    7: np.rot90(CORNERS.transpose(1, 0, 2), 2),
    8: np.rot90(CORNERS),
}
"""What each EXIF orientation asks for, by the standard's table of where row 0 and column 0 lie."""


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_is_applied(orientation: int) -> None:
    assert np.array_equal(_seen(encoded(PICTURE, "PNG", exif=_exif(orientation))), ORIENTED[orientation])
    jpeg = _seen(encoded(PICTURE, "JPEG", exif=_exif(orientation), quality=95, subsampling=0)).astype(int)
    assert jpeg.shape == ORIENTED[orientation].shape
    assert np.abs(jpeg - ORIENTED[orientation])[4::8, 4::8].max() < 24
    for compression in (None, "tiff_lzw"):
        tiff = encoded(PICTURE, "TIFF", tiffinfo={0x0112: orientation}, compression=compression)
        assert np.array_equal(_seen(tiff), ORIENTED[orientation])


def test_orientation_that_browsers_ignore_is_ignored() -> None:
    """As measured in Chromium: WebP's, XMP's, one after a PNG's pixels, and what is damaged."""
    webp = encoded(PICTURE, "WEBP", lossless=True, exif=_exif(6))
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    oriented = encoded(PICTURE, "PNG", exif=_exif(6))
    start = oriented.index(b"eXIf") - 4
    stop = start + 12 + struct.unpack(">I", oriented[start : start + 4])[0]
    end = oriented.index(b"IEND") - 4
    late = oriented[:start] + oriented[stop:end] + oriented[start:stop] + oriented[end:]
    damaged = encoded(PICTURE, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    for data in (webp, late, damaged, encoded(PICTURE, "PNG", exif=_exif(9))):
        assert np.array_equal(_seen(data), CORNERS)
    assert _seen(encoded(PICTURE, "JPEG", xmp=xmp)).shape == CORNERS.shape


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_on_white(kind: str) -> None:
    pixels = np.dstack([CORNERS, np.full(CORNERS.shape[:2], 255, np.uint8)])
    pixels[:8, :8] = (0, 0, 0, 0)
    pixels[8:16, :8] = (0, 0, 0, 128)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    seen = _seen(encoded(Image.fromarray(pixels), kind, **options))
    assert (seen[:8, :8] == 255).all()
    assert (np.abs(seen[8:16, :8].astype(int) - 127) <= 1).all()
    assert np.array_equal(seen[16:], CORNERS[16:])


def test_palettes_and_their_transparency() -> None:
    palette = PICTURE.quantize(8)
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        assert np.array_equal(_seen(encoded(palette, kind)), CORNERS)
    red = int(np.asarray(palette)[0, 0])
    for kind in ("PNG", "GIF"):
        seen = _seen(encoded(palette, kind, transparency=red))
        assert (seen[:16, :24] == 255).all()
        assert np.array_equal(seen[16:], CORNERS[16:])


def test_a_transparent_colour_of_rgb() -> None:
    assert (_seen(encoded(PICTURE, "PNG", transparency=(255, 0, 0)))[:16, :24] == 255).all()


def test_grey_of_few_bits() -> None:
    ramp = np.linspace(0, 255, 48).astype(np.uint8)[None].repeat(8, axis=0)
    expected = ramp[..., None].repeat(3, axis=2)
    for kind in ("PNG", "TIFF", "BMP"):
        assert np.array_equal(_seen(encoded(Image.fromarray(ramp), kind)), expected)
    with_alpha = Image.merge("LA", [Image.fromarray(ramp), Image.new("L", (48, 8), 255)])
    assert np.array_equal(_seen(encoded(with_alpha, "PNG")), expected)
    for kind in ("PNG", "TIFF", "BMP", "GIF"):
        assert np.array_equal(_seen(encoded(Image.fromarray(ramp > 99), kind)), (expected > 99) * np.uint8(255))


def test_sixteen_bit_png_keeps_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 0x7FFF, 0xFFFF]], dtype=np.uint16)
    assert _seen(encoded(Image.fromarray(values), "PNG"))[0, :, 0].tolist() == [0, 0, 1, 127, 255]
    assert _seen(_rgb16_png([0x0100, 0x80FF, 0xFFFF])).tolist() == [[[1, 128, 255]]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_tiff_is_stretched(dtype: type) -> None:
    values = np.array([[1000, 2000, 3000, 1500, 1000]], dtype=dtype)
    assert _seen(encoded(Image.fromarray(values), "TIFF"))[0, :, 1].tolist() == [0, 128, 255, 64, 0]
    flat = np.full((3, 3), 700, dtype=dtype)
    assert not _seen(encoded(Image.fromarray(flat), "TIFF")).any()


def test_float_tiff_with_holes() -> None:
    values = np.array([[np.nan, 0.0, 1.0, np.inf, -np.inf]], dtype=np.float32)
    assert _seen(encoded(Image.fromarray(values), "TIFF"))[0, :, 0].tolist() == [0, 0, 255, 0, 0]
    assert not _seen(encoded(Image.fromarray(np.full((2, 2), np.nan, np.float32)), "TIFF")).any()


def test_cmyk_is_read_with_adobes_polarity_with_and_without_its_marker() -> None:
    """Ink (200, 100, 50, 25) is (49, 139, 184) in Chromium, marker or not."""
    data = encoded(Image.new("CMYK", (16, 16), (200, 100, 50, 25)), "JPEG", quality=100, subsampling=0)
    marker = data.index(b"\xff\xee")
    bare = data[:marker] + data[marker + 2 + struct.unpack(">H", data[marker + 2 : marker + 4])[0] :]
    for form in (data, bare):
        assert (np.abs(_seen(form).astype(int) - [49, 139, 184]) <= 3).all()
    assert (_seen(encoded(Image.new("CMYK", (4, 4), (255, 0, 255, 0)), "TIFF")) == GREEN).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_frames_the_first(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    later = [Image.new("RGB", PICTURE.size, "black"), Image.new("RGB", PICTURE.size, "red")]
    seen = _seen(encoded(PICTURE, kind, save_all=True, append_images=later, **options))
    assert np.array_equal(seen[::8, ::8], CORNERS[::8, ::8])


@pytest.mark.parametrize(("kind", "options"), LOSSLESS.values(), ids=LOSSLESS)
def test_the_megapixel_cap(kind: str, options: dict[str, object]) -> None:
    data = encoded(PICTURE, kind, **options)
    exact = 48 * 32 / 1e6
    assert decode(data, max_megapixels=exact).shape == (32, 48, 3)
    for function in (decode, displayed_size):
        with pytest.raises(TooLarge, match=r"48 x 32 pixels.*SAM3_MAX_MEGAPIXELS"):
            function(data, max_megapixels=exact * 0.999)


def test_the_cap_is_checked_before_pixels_are_read() -> None:
    """A header that promises 3.6 gigapixels, with no pixels behind it: refused for its size, not as broken."""
    with pytest.raises(TooLarge, match="60000 x 60000"):
        decode(_png(struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0), b""), max_megapixels=100)


def test_large_pictures_below_the_cap_pass_where_pillow_would_warn_or_refuse(
    recwarn: pytest.WarningsRecorder,
) -> None:
    limit, truncated = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    data = encoded(Image.new("1", (20_000, 10_000)), "PNG")
    assert displayed_size(data, max_megapixels=200) == (20_000, 10_000)
    assert not recwarn.list
    assert limit == Image.MAX_IMAGE_PIXELS
    assert ImageFile.LOAD_TRUNCATED_IMAGES is truncated


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page.*login"),
        (b"\xef\xbb\xbf\n <HTML>", "web page"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "SVG"),
        (b'<?xml version="1.0"?>\n<!-- x --><svg></svg>', "SVG"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML.*storage"),
        (b'{"detail": "Not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"PK\x03\x04", "not a picture of a known kind"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not a picture of a known kind"),
        (bytes(1000), "not a picture of a known kind"),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, sentence: str) -> None:
    for function in (decode, displayed_size):
        with pytest.raises(BrokenImage, match=f"{sentence}.*JPEG, PNG"):
            function(data, max_megapixels=1)


def test_no_width_no_picture() -> None:
    for size in ((0, 5), (5, 0)):
        with pytest.raises(BrokenImage):
            decode(_png(struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0), zlib.compress(b"")), max_megapixels=1)


FILES = {
    "jpeg": encoded(PICTURE, "JPEG", exif=_exif(6)),
    "jpeg-progressive": encoded(PICTURE, "JPEG", progressive=True),
    "jpeg-cmyk": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "png": encoded(PICTURE, "PNG", exif=_exif(8)),
    "png-palette": encoded(PICTURE.quantize(8), "PNG", transparency=1),
    "png-16": encoded(Image.fromarray(CORNERS[..., 0].astype(np.uint16) * 257), "PNG"),
    "png-animated": encoded(PICTURE, "PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    "webp": encoded(PICTURE.convert("RGBA"), "WEBP"),
    "webp-lossless": encoded(PICTURE, "WEBP", lossless=True, exif=_exif(3)),
    "webp-animated": encoded(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)]),
    "gif": encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "tiff": encoded(PICTURE, "TIFF", tiffinfo={0x0112: 5}),
    "tiff-lzw": encoded(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": encoded(PICTURE, "TIFF", compression="jpeg"),
    "tiff-float": encoded(Image.fromarray(CORNERS[..., 0].astype(np.float32)), "TIFF"),
    "bmp": encoded(PICTURE, "BMP"),
    "bmp-palette": encoded(PICTURE.quantize(8), "BMP"),
}


@pytest.mark.parametrize("name", FILES)
def test_cut_off_files_are_refused(name: str) -> None:
    data = FILES[name]
    first_frame_is_whole_at = 0.6 if name in ("gif", "png-animated") else 1
    for share in {0.02, 0.3, 0.6} - {first_frame_is_whole_at}:
        with pytest.raises(BrokenImage):
            decode(data[: max(1, int(len(data) * share))], max_megapixels=1)


@settings(max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_give_a_picture_or_one_clear_error(name: str, data: st.DataObject) -> None:
    damaged = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers are where readers go astray: half of the blows go there.
        end = data.draw(st.sampled_from([min(120, len(damaged)), len(damaged)]))
        place = data.draw(st.integers(0, end))
        blow = data.draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"]))
        )
        removed = data.draw(st.sampled_from([len(blow), len(blow), 0, 7]))
        damaged[place : place + removed] = blow
    for function in (displayed_size, decode):
        sentence = _refusal(function, bytes(damaged))
        assert sentence is None or (sentence and "\n" not in sentence)


@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"BM"]),
    st.binary(),
)
def test_a_right_beginning_is_not_enough(magic: bytes, rest: bytes) -> None:
    with pytest.raises((BrokenImage, TooLarge)):
        decode(magic + rest, max_megapixels=0.1)


def test_many_threads_at_once() -> None:
    names = sorted(FILES) * 8
    alone = {name: decode(FILES[name], max_megapixels=1) for name in FILES}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda name: decode(FILES[name], max_megapixels=1), names))
    assert all(np.array_equal(alone[name], pixels) for name, pixels in zip(names, together, strict=True))


def test_keys_follow_the_bytes() -> None:
    image = EncodedImage(b"one")
    key = image.key
    assert key == image.key == EncodedImage(bytes(bytearray(b"one"))).key
    assert key != EncodedImage(b"two").key
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


def test_an_encoded_image_is_itself_and_reads_its_header_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image = EncodedImage(encoded(Image.new("RGB", (30, 20)), "PNG"))
    assert EncodedImage.of(image) is image
    assert EncodedImage.of(image.data).data is image.data
    assert image.displayed_size(max_megapixels=1) == (30, 20)
    monkeypatch.setattr(images, "displayed_size", None)
    assert image.displayed_size(max_megapixels=1) == (30, 20)


def test_an_encoded_image_that_is_none_says_so_each_time() -> None:
    image = EncodedImage(b"nothing")
    for _ in range(2):
        with pytest.raises(BrokenImage):
            image.displayed_size(max_megapixels=1)


def _refusal(function: Callable[..., object], data: bytes) -> str | None:
    """The sentence of an expected refusal; None for success. Any other error goes through."""
    try:
        function(data, max_megapixels=0.5)
    except (BrokenImage, TooLarge) as error:
        return str(error)
    return None


def _png(header: bytes, pixels: bytes) -> bytes:
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    file.seek(0, io.SEEK_END)
    for name, content in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content)))
    return file.getvalue()


def _rgb16_png(color: list[int]) -> bytes:
    """One pixel of 16-bit RGB, which Pillow does not write."""
    return _png(struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), zlib.compress(b"\0" + struct.pack(">3H", *color)))


def test_deferred_bytes_are_worked_out_when_wanted_and_once() -> None:
    asked: list[int] = []

    def load() -> bytes:
        asked.append(1)
        return b"file"

    image = EncodedImage.deferred("0" * 32, load)
    assert EncodedImage.of(image).key == "0" * 32
    assert asked == []
    assert image.data == image.data == b"file"
    assert asked == [1]


def test_deferred_bytes_that_cannot_be_had_are_asked_for_again() -> None:
    answers: list[bytes] = []
    image = EncodedImage.deferred("0" * 32, lambda: answers.pop())
    with pytest.raises(IndexError):
        _ = image.data
    answers.append(b"file")
    assert image.data == b"file"
