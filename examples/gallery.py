"""Writes a page of 100 images, with a style sheet and a script, for fileserver.py to serve.

    python examples/gallery.py DIR

The images are computed, so there is nothing to download; no two are the same.
"""

from __future__ import annotations

import argparse
import colorsys
import math
import pathlib
import struct
import zlib

# Images, the pixels of each one's width and height, and its colours.
IMAGES, SIZE, TONES = 100, 64, 6

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>100 images over one connection</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
<script src="script.js" defer></script>
<h1>100 images over one connection</h1>
<main>
{images}
</main>
<p id="summary">loading</p>
"""

STYLE = """\
body { margin: 0; padding: 20px; background: #14161c; color: #e8e8ea;
       font: 16px/1.5 system-ui, sans-serif; text-align: center; }
h1 { margin: 0 0 16px; font-size: 22px; font-weight: 500; }
main { display: grid; grid-template-columns: repeat(10, 64px); gap: 6px;
       justify-content: center; }
img { width: 64px; height: 64px; border-radius: 10px; opacity: 0; transition: opacity .2s; }
img.loaded { opacity: 1; }
p { margin: 16px 0 0; color: #a0a4b0; }
"""

SCRIPT = """\
for (const image of document.images) {
  const show = () => image.classList.add("loaded");
  if (image.complete) show(); else image.addEventListener("load", show);
}
addEventListener("load", () => {
  const [page] = performance.getEntriesByType("navigation");
  const entries = [page, ...performance.getEntriesByType("resource")];
  const protocols = [...new Set(entries.map(entry => entry.nextHopProtocol))].join(", ");
  const bytes = entries.reduce((sum, entry) => sum + entry.encodedBodySize, 0);
  document.getElementById("summary").textContent =
    `${entries.length} responses, ${Math.round(bytes / 1024)} KiB, all over ${protocols}`;
});
"""


def png(width: int, height: int, rows: list[bytes]) -> bytes:
    """Return rows of red, green and blue bytes as a PNG file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    # 8 bits each of three colours; a row begins with the number of its filter, none
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def rings(number: int) -> bytes:
    """Return an image of rings, in a colour of its own."""
    hue, centre = number / IMAGES, SIZE * (0.3 + 0.4 * (number % 10) / 9)
    tones = []
    for step in range(TONES):
        part = step / TONES
        colour = colorsys.hls_to_rgb(hue + 0.15 * part, 0.25 + 0.4 * part, 0.75)
        tones.append(bytes(round(255 * value) for value in colour))
    wave = 2 + number // 10
    rows = []
    for y in range(SIZE):
        waves = (math.sin(math.hypot(x - centre, y - centre) / wave) for x in range(SIZE))
        rows.append(b"".join(tones[int((TONES - 1) * (1 + w) / 2)] for w in waves))
    return png(SIZE, SIZE, rows)


def write(directory: pathlib.Path) -> None:
    """Write the page, and what belongs to it."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"image-{number:02}.png" for number in range(IMAGES)]
    for number, name in enumerate(names):
        (directory / name).write_bytes(rings(number))
    size = f'width="{SIZE}" height="{SIZE}"'
    images = "\n".join(f'<img src="{name}" {size} alt="">' for name in names)
    (directory / "index.html").write_text(PAGE.format(images=images), encoding="utf-8")
    (directory / "style.css").write_text(STYLE, encoding="utf-8")
    (directory / "script.js").write_text(SCRIPT, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write a page of 100 images")
    parser.add_argument("directory", type=pathlib.Path, metavar="DIR")
    write(parser.parse_args().directory)
