"""Pictures that are small files and large in memory: refused before a pixel is decoded, whatever their format.

What is measured is the peak of the process that reads them, decoders' own memory included.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MIB = 1 << 20

# Resource limits of a process of its own: a decoder that asks for gigabytes fails, and the peak is only its own.
PROGRAM = """
import json, resource, sys
from sam3_core.images import decode, displayed_size
from sam3_core.errors import Sam3Error
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = open(sys.argv[1], "rb").read()
before, said = peak(), []
for read in (displayed_size, decode):
    try:
        got = read(data, max_megapixels=float(sys.argv[2]))
        said.append(list(getattr(got, "shape", got)))
    except Sam3Error as error:
        said.append(f"{error.status} {error}")
print(json.dumps({"said": said, "grown": peak() - before}))
"""


def read(data: bytes, folder: Path, megapixels: float = 40.0) -> tuple[list[object], int]:
    """What the size and the pixels come to, and by how many MiB the process grew."""
    file = folder / "picture"
    file.write_bytes(data)
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", PROGRAM, str(file), str(megapixels)]
    done = subprocess.run(command, cwd=root, capture_output=True, timeout=120, check=True)
    answer = json.loads(done.stdout)
    return answer["said"], answer["grown"] // 1024


def encoded(kind: str, size: tuple[int, int], **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("L" if kind != "WEBP" else "RGB", size).save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks: bytes, size: tuple[int, int] = (8, 8)) -> bytes:
    """Of eight by eight pixels, whatever size it says."""
    rows = zlib.compress(b"".join(b"\0" + bytes(8) for _ in range(8)))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def tiff(width: int, height: int, *more: tuple[int, int, int]) -> bytes:
    """One page; more: further entries (tag, type, value)."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1), *more]
    if not more:
        entries += [(273, 4, 8), (278, 4, height), (279, 4, 64)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4) + bytes(64)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 46, 0, 0, 0, 0)
        + bytes(46)
    )


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6)
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\x00;"


def webp(width: int, height: int, *, animated: bool) -> bytes:
    flags = 0x02 if animated else 0
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sizes
    if animated:
        body += b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += encoded("WEBP", (8, 8), lossless=True)[12:] if not animated else b""
    return b"RIFF" + struct.pack("<I", len(body)) + body


HUGE: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: png(size=(60_000, 60_000)),
    "a real PNG": lambda: encoded("PNG", (12_000, 12_000), compress_level=1),
    "JPEG": lambda: encoded("JPEG", (12_000, 12_000)),
    "progressive JPEG": lambda: encoded("JPEG", (8_000, 8_000), progressive=True),
    "GIF": lambda: gif((60_000, 60_000), (8, 8)),
    "TIFF": lambda: tiff(60_000, 60_000),
    "BMP": lambda: bmp(60_000, 60_000),
    "WebP": lambda: webp(16_000, 16_000, animated=False),
    "animated WebP": lambda: webp(16_000, 16_000, animated=True),
    "a real WebP": lambda: encoded("WEBP", (8_000, 8_000), lossless=True, method=0),
}


@pytest.mark.parametrize("kind", HUGE)
def test_a_huge_picture_is_refused_by_its_header(kind: str, tmp_path: Path) -> None:
    said, grown = read(HUGE[kind](), tmp_path)
    assert len(said) == 2
    for one in said:
        assert isinstance(one, str)
        # The two that are no whole files are refused as such: their reader looks at the end first.
        assert ("413" in one and "megapixels" in one) or kind in ("WebP", "animated WebP"), one
    assert grown < 60


def test_a_small_screen_with_a_huge_frame(tmp_path: Path) -> None:
    said, grown = read(gif((8, 8), (60_000, 60_000)), tmp_path)
    assert all(isinstance(one, str) or one[0] * one[1] <= 40e6 for one in said)
    assert grown < 200


@pytest.mark.parametrize("count", [1, 60])
def test_texts_and_profiles_that_unpack(count: int, tmp_path: Path) -> None:
    """Pillow unpacks them to keep them; the picture itself is fine or not read, and memory stays."""
    packed = zlib.compress(bytes(64 * MIB), 9)
    for name, head in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        said, grown = read(png(*[chunk(name, head + packed)] * count), tmp_path)
        assert len(said) == 2
        assert grown < 150, name


def test_a_tile_that_is_larger_than_the_picture(tmp_path: Path) -> None:
    tile = [(322, 4, 60_000), (323, 4, 60_000), (324, 4, 8), (325, 4, 64)]
    for compression in (1, 5, 8):
        data = tiff(8, 8, *tile).replace(
            struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, compression)
        )
        said, grown = read(data, tmp_path)
        assert len(said) == 2
        assert grown < 200


def test_many_frames_and_pages_cost_what_the_first_one_does(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((400, 400), level, np.uint8)) for level in range(200)]
    for kind in ("GIF", "TIFF", "WEBP", "PNG"):
        out = io.BytesIO()
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])
        said, grown = read(out.getvalue(), tmp_path)
        assert said[1] == [400, 400, 3], kind
        assert grown < 60, kind


def test_pages_that_lead_in_a_circle(tmp_path: Path) -> None:
    data = bytearray(tiff(8, 8))
    data[-68:-64] = struct.pack("<I", 8)  # the next page is this one
    said, _ = read(bytes(data), tmp_path)
    assert said[1] == [8, 8, 3]
