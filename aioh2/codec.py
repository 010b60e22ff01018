"""HPACK coders, subclasses of hpack's (RFC 7541).

They close what hpack leaves open: which table sizes an encoder has to announce, and how large a
table a peer may make it keep.
"""

from __future__ import annotations

import hpack
from hpack.hpack import encode_integer

__all__ = ["Encoder"]


class Encoder(hpack.Encoder):
    """An encoder whose table the peer can bound, but not grow beyond :attr:`MAX_TABLE_SIZE`.

    hpack announces every size that was set since the last block, and forgets to announce one
    that was set twice. RFC 7541 section 4.2 asks for the smallest, where that is below the
    final one, and for the final one.
    """

    #: The most that a table may hold, in bytes as RFC 7541 section 4.1 counts them. A peer's
    #: SETTINGS_HEADER_TABLE_SIZE is leave to use that much, not an order.
    MAX_TABLE_SIZE = 4_096

    def __init__(self) -> None:
        super().__init__()
        # The size that the peer's decoder has been told.
        self._announced = self.header_table.maxsize
        # The smallest size that was set since then; None: none was.
        self._smallest: int | None = None

    @property
    def header_table_size(self) -> int:
        """The size of the table; setting it is announced with the next header block."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, self.MAX_TABLE_SIZE)
        self.header_table.maxsize = size
        self._smallest = size if self._smallest is None else min(self._smallest, size)
        # hpack asks this flag whether the next block starts with _encode_table_size_change()
        changed = (self._smallest, size) != (self._announced, self._announced)
        self.header_table.resized = changed
        if not changed:
            self._smallest = None

    def _encode_table_size_change(self) -> bytes:
        # hpack calls this at the start of a block when header_table.resized is set
        size = self.header_table.maxsize
        sizes = [size]
        if self._smallest is not None and self._smallest < size:
            sizes.insert(0, self._smallest)
        self._announced, self._smallest = size, None
        block = bytearray()
        for number in sizes:
            update = encode_integer(number, 5)
            update[0] |= 0x20
            block += update
        return bytes(block)
