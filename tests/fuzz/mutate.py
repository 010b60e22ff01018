"""The starting corpus, and seeded mutations of it that know what a frame is."""

from __future__ import annotations

import json
import pathlib
import random
from collections.abc import Callable
from typing import Final

HERE: Final = pathlib.Path(__file__).resolve().parent
_NUMBERS: Final = (0, 1, 2, 3, 5, 0x7F, 0xFF, 0x4000, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)

Frames = list[bytes]


def corpus() -> dict[str, bytes]:
    """Return the inputs that the repository keeps, by name."""
    texts: dict[str, str] = json.loads((HERE / "corpus.json").read_text(encoding="ascii"))
    return {name: bytes.fromhex(text) for name, text in texts.items()}


def cut(octets: bytes) -> Frames:
    """Cut into frames; what is none at the end is one too. A preface is one by itself."""
    frames = []
    if octets.startswith(b"PRI"):
        frames, octets = [octets[:24]], octets[24:]
    while octets:
        end = 9 + int.from_bytes(octets[:3])
        frames.append(octets[:end])
        octets = octets[end:]
    return frames


def mutate(data: bytes, other: bytes, r: random.Random) -> bytes:
    """Return an input that is like ``data``, with something of ``other`` at times."""
    head, frames = bytearray(data[:2].ljust(2, b"\0")), cut(data[2:]) or [b""]
    for _ in range(r.choice((1, 1, 2, 3, 6))):
        r.choice(_MUTATIONS)(frames, other, r)
        frames = frames or [b""]
    if r.random() < 0.1:
        head[r.randrange(2)] = r.randrange(64)
    return bytes(head) + b"".join(frames)


def _at(frames: Frames, r: random.Random) -> int:
    return r.randrange(len(frames))


def _leave_out(frames: Frames, other: bytes, r: random.Random) -> None:
    del frames[_at(frames, r)]
    frames += [] if frames else [b""]


def _double(frames: Frames, other: bytes, r: random.Random) -> None:
    at = _at(frames, r)
    frames[at:at] = [frames[at]] * r.choice((1, 1, 2, 40))


def _move(frames: Frames, other: bytes, r: random.Random) -> None:
    frame = frames.pop(_at(frames, r))
    frames.insert(r.randint(0, len(frames)), frame)


def _bring(frames: Frames, other: bytes, r: random.Random) -> None:
    theirs = cut(other[2:]) or [b""]
    at = r.randrange(len(theirs))
    where = r.randint(0, len(frames))
    frames[where:where] = theirs[at : at + r.choice((1, 1, 2, 5))]


def _change_header(frames: Frames, other: bytes, r: random.Random) -> None:
    at = _at(frames, r)
    frame = bytearray(frames[at])
    if len(frame) < 9:
        return
    what = r.randrange(4)
    if what == 0:
        frame[3] = r.choice((*range(11), 16, 0xBE))
    elif what == 1:
        frame[4] ^= r.choice((1, 4, 8, 32, 255))
    elif what == 2:
        frame[5:9] = r.choice((0, 1, 2, 3, 5, 7, 9, 2**31 - 1, 2**31)).to_bytes(4)
    else:
        frame[:3] = (r.choice((0, 1, 4, 5, 8, 9, 16_384, 16_385, 2**24 - 1))).to_bytes(3)
    frames[at] = bytes(frame)


def _change_payload(frames: Frames, other: bytes, r: random.Random) -> None:
    """Change the content and let the length say so."""
    at = _at(frames, r)
    frame = bytearray(frames[at])
    if len(frame) < 9:
        return
    start = r.randint(9, len(frame))
    what = r.randrange(4)
    if what == 0:
        frame[start : start + r.choice((1, 4))] = r.randbytes(r.choice((0, 1, 2, 4, 20)))
    elif what == 1:
        frame[start : start + 4] = r.choice(_NUMBERS).to_bytes(4)
    elif what == 2:
        del frame[start:]
    elif len(frame) > 9:
        frame[r.randrange(9, len(frame))] ^= 1 << r.randrange(8)
    frame[:3] = (len(frame) - 9).to_bytes(3)
    frames[at] = bytes(frame)


def _flip(frames: Frames, other: bytes, r: random.Random) -> None:
    at = _at(frames, r)
    frame = bytearray(frames[at])
    if frame:
        frame[r.randrange(len(frame))] ^= 1 << r.randrange(8)
    frames[at] = bytes(frame)


_MUTATIONS: Final[list[Callable[[Frames, bytes, random.Random], None]]] = [
    _leave_out,
    _double,
    _move,
    _bring,
    _bring,
    _change_header,
    _change_header,
    _change_payload,
    _change_payload,
    _change_payload,
    _flip,
]
