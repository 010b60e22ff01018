"""HPACK coders, subclasses of hpack's (RFC 7541).

They close what hpack leaves open: which table sizes an encoder has to announce, and how large a
table a peer may make it keep. And they remember what does not change while the table stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

import hpack
from hpack import HeaderTuple, NeverIndexedHeaderTuple
from hpack.exceptions import HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import DEFAULT_MAX_HEADER_LIST_SIZE, decode_integer, encode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

__all__ = ["AS_KNOWN", "Decoder", "Encoder", "Excess"]

# Bytes that hold any integer that hpack accepts (RFC 7541 section 5.1), and one more.
_INTEGER: Final = 8


class Excess(OversizedHeaderListError):
    """A header block holds more of something than it may."""

    def __init__(self, limit: str, reason: str) -> None:
        super().__init__(reason)
        #: The limit that it exceeds.
        self.limit = limit


_STATIC: Final = (
    HeaderTuple(b"", b""),
    *(HeaderTuple(name, value) for name, value in HeaderTable.STATIC_TABLE),
)
_STATICS: Final = len(_STATIC)


class _Table(HeaderTable):
    """hpack's table, which counts its changes, so that it is known how long a memo holds."""

    def __init__(self) -> None:
        super().__init__()
        self.version = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.version += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return cast(int, cast(Any, HeaderTable.maxsize).fget(self))

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.version += 1
        # hpack's property, which does the work
        cast(Any, HeaderTable.maxsize).fset(self, newmax)


class _QuickTable(_Table):
    """The same, which keeps fields as they are handed out, and logs nothing.

    Relies on ``dynamic_entries``, ``_maxsize`` and ``_current_size`` of hpack's table.
    """

    def add(self, name: bytes, value: bytes) -> None:
        entries, size = self.dynamic_entries, _size(name, value)
        if size > self._maxsize:
            if not entries:
                return
            entries.clear()
            size = self._current_size = 0
        else:
            entries.appendleft(HeaderTuple(name, value))
        self.version += 1
        total = self._current_size + size
        while total > self._maxsize:
            total -= _size(*entries.pop())
        self._current_size = total


def _size(name: bytes, value: bytes) -> int:
    # RFC 7541 section 4.1
    return 32 + len(name) + len(value)


#: Whether hpack keeps its table as it did: else its own coders do all the work.
AS_KNOWN: Final = set(vars(HeaderTable())) == {
    "_current_size",
    "_maxsize",
    "dynamic_entries",
    "resized",
}


def _is_pair_of_bytes(field: Any) -> bool:
    return len(field) == 2 and type(field[0]) is bytes and type(field[1]) is bytes


class Encoder(hpack.Encoder):
    """An encoder whose table the peer can bound, but not grow beyond :attr:`MAX_TABLE_SIZE`.

    hpack announces every size that was set since the last block, and forgets to announce one
    that was set twice. RFC 7541 section 4.2 asks for the smallest, where that is below the
    final one, and for the final one.

    What changes nothing in the table is remembered while the table stands. So that it does
    stand, a value of :attr:`UNIQUE` goes into it only when it comes a second time.
    """

    #: The most that a table may hold, in bytes as RFC 7541 section 4.1 counts them. A peer's
    #: SETTINGS_HEADER_TABLE_SIZE is leave to use that much, not an order.
    MAX_TABLE_SIZE = 4_096

    #: Header lists, and fields, that are remembered at once, and the most fields in a list.
    LISTS = 256
    LONGEST = 16

    #: Names of fields whose values rarely come again.
    UNIQUE: Final = frozenset(
        b":path age content-length date etag if-modified-since if-none-match last-modified "
        b"location".split()
    )

    def __init__(self, *, memo: bool = AS_KNOWN) -> None:
        super().__init__()
        self.header_table: _Table = _QuickTable() if memo else _Table()
        # Whether anything is remembered.
        self._remembers = memo
        # The blocks of header lists, and the pieces of fields, that changed nothing in the
        # table, while it stands.
        self._blocks: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}
        self._pieces: dict[tuple[bytes, bytes], bytes] = {}
        self._version = 0
        # Fields with unique names that have come once.
        self._seen: dict[tuple[bytes, bytes], None] = {}
        # The size that the peer's decoder has been told.
        self._announced = self.header_table.maxsize
        # The smallest size that was set since then; None: nothing else was.
        self._smallest: int | None = None

    def encode(self, headers: Any, huffman: bool = True) -> bytes:
        """As hpack's; for a tuple of pairs of bytes, what is remembered is used."""
        table = self.header_table
        if not self._remembers or not huffman or isinstance(headers, dict):
            return super().encode(headers, huffman)
        if type(headers) is not tuple:
            headers = tuple(headers)
            if not all(map(_is_pair_of_bytes, headers)):
                return super().encode(headers, huffman)
        if table.resized:
            sizes = self._encode_table_size_change()
            table.resized = False
            return sizes + self.encode(headers)
        if table.version != self._version:
            self._forget()
        block = self._blocks.get(headers)
        # a field that must never be indexed equals one that may
        if block is None or NeverIndexedHeaderTuple in map(type, headers):
            block = self._encode_fields(headers)
        return block

    def _forget(self) -> None:
        self._blocks.clear()
        self._pieces.clear()
        self._version = self.header_table.version

    def _encode_fields(self, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        pieces, lasts = [], len(headers) <= self.LONGEST
        for field in headers:
            if type(field) is NeverIndexedHeaderTuple:
                piece, stays = self._encode_secret(*field), False
            else:
                known = self._pieces.get(field)
                piece, stays = (known, True) if known else self._encode_field(field)
            lasts = lasts and stays
            pieces.append(piece)
        block = b"".join(pieces)
        if lasts:
            _remember(self._blocks, headers, block, self.LISTS)
        return block

    def _encode_secret(self, name: bytes, value: bytes) -> bytes:
        """Encode a field that must never be indexed (RFC 7541 section 6.2.3).

        hpack writes an index where the table has it, which tells who guesses (section 7.1.3).
        """
        match = self.header_table.search(name, b"")
        piece = encode_integer(match[0] if match else 0, 4)
        piece[0] |= 0x10
        for text in (value,) if match else (name, value):
            coded = text.isascii()
            octets = self.huffman_coder.encode(text) if coded else text
            length = encode_integer(len(octets), 7)
            length[0] |= coded << 7
            piece += length + octets
        return bytes(piece)

    def _encode_field(self, field: tuple[bytes, bytes]) -> tuple[bytes, bool]:
        """Encode one field; also say whether it is encoded so again, while the table stands."""
        name, value = field
        too_large = 4 * _size(name, value) > 3 * self.header_table.maxsize
        once = name in self.UNIQUE and field not in self._seen
        # Huffman codes of other octets are two to four times as long as they
        piece = self.add((name, value), too_large or once, value.isascii())
        if piece[0] & 0xF0 == 0x10:
            # not for the table, but no secret either (RFC 7541 section 6.2.2)
            piece = bytes([piece[0] & 0x0F]) + piece[1:]
            if once:
                _remember(self._seen, field, None, self.LISTS)
                return piece, False
        if self.header_table.version != self._version:
            self._forget()
            return piece, False
        _remember(self._pieces, field, piece, self.LISTS)
        return piece, True

    @property
    def header_table_size(self) -> int:
        """The size of the table; setting it is announced with the next header block."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        size = min(value, self.MAX_TABLE_SIZE)
        self.header_table.maxsize = size
        if self._smallest is not None:
            self._smallest = min(self._smallest, size)
        elif size != self._announced:
            self._smallest = size
        # hpack asks this flag whether the next block starts with _encode_table_size_change()
        self.header_table.resized = self._smallest is not None

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


def _remember(memo: dict[Any, Any], key: object, value: object, limit: int) -> None:
    if len(memo) >= limit:
        memo.clear()
    memo[key] = value


class Decoder(hpack.Decoder):
    """A decoder that remembers header blocks, and copies none of a block's rest for each field.

    A block that changes nothing in the table means the same while the table stands. Blocks with
    fields that must never be indexed, and those that announce a table size, are not remembered.

    Relies on hpack's ``_decode_indexed``, ``_update_encoding_context`` and
    ``_assert_valid_table_size`` for what is rare.
    """

    #: Blocks that are remembered at once, and the longest of them in bytes.
    BLOCKS = 256
    LONGEST = 1_024

    #: Table sizes that a block may announce: the smallest since the last, and the one that holds
    #: (RFC 7541 section 4.2). None needs more.
    UPDATES: Final = 2

    def __init__(
        self, max_header_list_size: int = DEFAULT_MAX_HEADER_LIST_SIZE, *, memo: bool = AS_KNOWN
    ) -> None:
        super().__init__(max_header_list_size)
        self.header_table: _Table = _QuickTable() if memo else _Table()
        # Whether blocks are remembered.
        self._remembers = memo
        #: Fields that a list may have: a byte each can name large ones of the table.
        self.max_fields = 256
        # What the blocks mean, and the state for which that holds.
        self._memo: dict[bytes, tuple[HeaderTuple, ...]] = {}
        self._memo_state = self.state

    @property
    def state(self) -> tuple[int, int, int]:
        """What a block's meaning depends on: it is the same while this is."""
        return (self.header_table.version, self.max_header_list_size, self.max_allowed_table_size)

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """As hpack's; ``raw`` headers come as a tuple that may be shared."""
        if not raw or not self._remembers:
            decoded = list(super().decode(data, raw))
            if len(decoded) > self.max_fields:
                raise self._too_many_fields()
            return decoded
        known = self._memo_state
        if (
            known[0] != self.header_table.version
            or known[1] != self.max_header_list_size
            or known[2] != self.max_allowed_table_size
        ):
            self._memo.clear()
            self._memo_state = known = self.state
        fields = self._memo.get(data)
        if fields is None:
            fields, lasts = self._fields(data)
            if lasts and len(data) <= self.LONGEST and known == self.state:
                _remember(self._memo, data, fields, self.BLOCKS)
        return fields

    def _fields(self, data: bytes) -> tuple[tuple[HeaderTuple, ...], bool]:
        """Decode a block; also say whether it may be remembered."""
        fields: list[HeaderTuple] = []
        dynamic: Any = self.header_table.dynamic_entries
        lasts = True
        size = at = updates = 0
        end = len(data)
        while at < end:
            first = data[at]
            if first & 0x80:
                index = first - 0x80
                if 0 < index < _STATICS:
                    field, at = _STATIC[index], at + 1
                elif 0 < index < 0x7F and index - _STATICS < len(dynamic):
                    field, at = dynamic[index - _STATICS], at + 1
                else:
                    field, used = self._decode_indexed(data[at : at + _INTEGER])
                    at += used
            elif first & 0x60 == 0x20:
                if fields:
                    raise HPACKDecodingError("Table size update not at the start of the block")
                at += self._update_encoding_context(data[at : at + _INTEGER])
                lasts = False
                updates += 1
                if updates > self.UPDATES:
                    raise Excess(
                        "table_size_updates", f"more than {self.UPDATES} table sizes in a block"
                    )
                continue
            else:
                field, at = self._literal(data, at)
                lasts = lasts and field.indexable
            if len(fields) >= self.max_fields:
                raise self._too_many_fields()
            fields.append(field)
            size += 32 + len(field[0]) + len(field[1])
            if size > self.max_header_list_size:
                raise OversizedHeaderListError(
                    f"A header list larger than {self.max_header_list_size} has been received"
                )
        self._assert_valid_table_size()
        return tuple(fields), lasts

    def _too_many_fields(self) -> Excess:
        return Excess("max_header_fields", f"a header list has more than {self.max_fields} fields")

    def _literal(self, data: bytes, at: int) -> tuple[HeaderTuple, int]:
        """Decode a literal field (RFC 7541 section 6.2) from ``at`` on."""
        first = data[at]
        indexed = first & 0x40
        prefix = 6 if indexed else 4
        if first & ((1 << prefix) - 1):
            index, used = decode_integer(data[at : at + _INTEGER], prefix)
            name = self.header_table.get_by_index(index)[0]
            at += used
        else:
            name, at = _string(data, at + 1)
        value, at = _string(data, at)
        if indexed:
            self.header_table.add(name, value)
        if not indexed and first & 0x10:
            return NeverIndexedHeaderTuple(name, value), at
        return HeaderTuple(name, value), at


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """Decode a string literal (RFC 7541 section 5.2)."""
    length, used = decode_integer(data[at : at + _INTEGER], 7)
    start, end = at + used, at + used + length
    if end > len(data):
        raise HPACKDecodingError("Truncated header block")
    text = data[start:end]
    return decode_huffman(text) if data[at] & 0x80 else text, end
