"""Draws the two icons of the Teams app: a Q that is a speech bubble. Run it to change them: python draw_icons.py

No drawing library: every pixel is the share of its 16 sample points that lie inside the shape, written as a PNG.
"""

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

GREEN = (31, 92, 77)
WHITE = (255, 255, 255)
SAMPLES = 4


def inside_q(x: float, y: float) -> bool:
    """Whether a point of the unit square lies in the Q: a ring, and a tail that points down to the right."""
    distance = math.hypot(x - 0.5, y - 0.47)
    ring = 0.19 <= distance <= 0.31
    along, across = (x - 0.5) + (y - 0.47), abs((x - 0.5) - (y - 0.47))
    return ring or (0.22 <= along <= 0.62 and across <= 0.09)


def share(inside: Callable[[float, float], bool], x: int, y: int, size: int) -> float:
    """How much of a pixel lies inside."""
    steps = [(step + 0.5) / SAMPLES for step in range(SAMPLES)]
    return sum(inside((x + dx) / size, (y + dy) / size) for dx in steps for dy in steps) / SAMPLES**2


def color(x: int, y: int, size: int) -> bytes:
    """A white Q on green."""
    part = share(inside_q, x, y, size)
    return bytes(round(low + (high - low) * part) for low, high in zip(GREEN, WHITE, strict=True)) + b"\xff"


def outline(x: int, y: int, size: int) -> bytes:
    """A white Q on nothing, as Teams wants it."""
    return bytes(WHITE) + bytes([round(255 * share(inside_q, x, y, size))])


def png(size: int, pixel: Callable[[int, int, int], bytes]) -> bytes:
    """A square PNG with an alpha channel."""
    rows = b"".join(b"\0" + b"".join(pixel(x, y, size) for x in range(size)) for y in range(size))

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


if __name__ == "__main__":
    folder = Path(__file__).parent
    (folder / "color.png").write_bytes(png(192, color))
    (folder / "outline.png").write_bytes(png(32, outline))
