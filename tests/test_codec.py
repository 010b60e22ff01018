"""``codec``: what an encoder announces about its table, and that any decoder can follow it."""

from __future__ import annotations

import unittest
from collections.abc import Iterable

import hpack
from hpack.hpack import decode_integer
from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.codec import Encoder

BOUNDED = settings(derandomize=True, database=None, deadline=None, max_examples=200)
#: What both ends start with (RFC 9113 section 6.5.2).
DEFAULT = 4_096
FIELDS = [(b":method", b"GET"), (b"x-name", b"value"), (b"x-other", b"v" * 60)]


def announced(block: bytes) -> list[int]:
    """The table sizes that ``block`` starts with (RFC 7541 section 6.3)."""
    sizes = []
    while block and block[0] & 0xE0 == 0x20:
        size, length = decode_integer(block, 5)
        sizes.append(size)
        block = block[length:]
    return sizes


class Peer:
    """A decoder that sends SETTINGS, and holds the encoder to RFC 7541 section 4.2."""

    def __init__(self, case: unittest.TestCase) -> None:
        self.case = case
        self.decoder = hpack.Decoder()
        # What the encoder has announced.
        self.told = DEFAULT
        # The limits since then.
        self.limits: list[int] = []
        # The limit in force.
        self.limit = DEFAULT

    def settle_on(self, limit: int) -> None:
        """SETTINGS_HEADER_TABLE_SIZE was sent and acknowledged."""
        self.limits.append(limit)
        self.limit = self.decoder.max_allowed_table_size = limit

    def take(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Return the fields of ``block``, when it is right to start as it does."""
        used = [min(limit, Encoder.MAX_TABLE_SIZE) for limit in self.limits]
        self.limits.clear()
        sizes = announced(block)
        if any(size != self.told for size in used):
            smallest, final = min(used), used[-1]
            self.case.assertLessEqual(len(sizes), 2)
            self.case.assertEqual(sizes[-1:], [final])
            if smallest < min(final, self.told):
                self.case.assertEqual(sizes[0], smallest)
            self.told = final
        else:
            self.case.assertEqual(sizes, [])
        fields = [(name, value) for name, value in self.decoder.decode(block, raw=True)]
        self.case.assertEqual(self.decoder.header_table_size, self.told)
        return fields


#: SETTINGS values around what is decided on: nothing fits, one field fits, the default, the cap.
LIMITS = st.one_of(
    st.sampled_from([0, 1, 40, 100, 4_095, 4_096, 4_097, 8_192, 2**32 - 1]), st.integers(0, 9_000)
)
#: Few names and values, so that fields come again, and large ones, so that some are evicted.
BLOCKS = st.lists(
    st.tuples(
        st.sampled_from([b":path", b"cookie", b"x-a", b"x-b"]),
        st.sampled_from([b"", b"1", b"2", b"v" * 40, b"w" * 2_000, b"z" * 5_000]),
        st.booleans(),
    ),
    max_size=6,
)


class TestAnySequence(unittest.TestCase):
    @BOUNDED
    @given(st.lists(st.one_of(LIMITS, BLOCKS), max_size=25))
    def test_a_decoder_follows(self, steps: list[int | list[tuple[bytes, bytes, bool]]]) -> None:
        encoder, peer = Encoder(), Peer(self)
        for step in steps:
            if isinstance(step, int):
                peer.settle_on(step)
                encoder.header_table_size = step
                continue
            fields = [
                (hpack.NeverIndexedHeaderTuple if never else hpack.HeaderTuple)(name, value)
                for name, value, never in step
            ]
            self.assertEqual(peer.take(encoder.encode(fields)), fields)
            self.assertLessEqual(encoder.header_table_size, peer.limit)


class TestAnnounced(unittest.TestCase):
    def test_sizes_at_the_start_of_the_next_block(self) -> None:
        for sizes, expected in [
            ([], []),
            ([4_096], []),
            ([8_192], []),
            ([100], [100]),
            ([0], [0]),
            ([0, 0], [0]),
            ([100, 100], [100]),
            ([0, 8_192], [0, 4_096]),
            ([0, 100], [0, 100]),
            ([100, 0], [0]),
            ([100, 4_096], [100, 4_096]),
            ([300, 100, 200], [100, 200]),
            ([0, 4_096, 4_096], [0, 4_096]),
        ]:
            with self.subTest(sizes=sizes):
                self.assertEqual(announced(encoder_set_to(sizes).encode(FIELDS)), expected)

    def test_once_only(self) -> None:
        for sizes in ([100], [0, 8_192]):
            with self.subTest(sizes=sizes):
                encoder = encoder_set_to(sizes)
                encoder.encode(FIELDS)
                self.assertEqual(announced(encoder.encode(FIELDS)), [])

    def test_what_was_announced_is_not_announced_again(self) -> None:
        encoder = encoder_set_to([100])
        encoder.encode(FIELDS)
        encoder.header_table_size = 100
        self.assertEqual(announced(encoder.encode(FIELDS)), [])

    def test_a_table_that_grows_again(self) -> None:
        encoder = encoder_set_to([100])
        encoder.encode(FIELDS)
        encoder.header_table_size = 2_000
        self.assertEqual(announced(encoder.encode(FIELDS))[-1:], [2_000])

    def test_in_an_empty_block_too(self) -> None:
        self.assertEqual(announced(encoder_set_to([100]).encode([])), [100])


class TestSize(unittest.TestCase):
    def test_the_default(self) -> None:
        self.assertEqual(Encoder().header_table_size, DEFAULT)

    def test_a_peer_cannot_make_it_larger_than_the_cap(self) -> None:
        for size, used in [(4_095, 4_095), (4_096, 4_096), (4_097, 4_096), (2**32 - 1, 4_096)]:
            with self.subTest(size=size):
                self.assertEqual(encoder_set_to([size]).header_table_size, used)

    def test_the_cap_can_be_lower(self) -> None:
        class Small(Encoder):
            MAX_TABLE_SIZE = 50

        encoder = Small()
        encoder.header_table_size = DEFAULT
        self.assertEqual(encoder.header_table_size, 50)
        self.assertEqual(announced(encoder.encode(FIELDS)), [50])

    def test_a_smaller_table_forgets(self) -> None:
        encoder = Encoder()
        encoder.encode(FIELDS)
        small = len(encoder.encode(FIELDS))
        self.assertEqual(small, len(FIELDS), "a byte for each field that is in the table")
        encoder.header_table_size = 0
        encoder.header_table_size = DEFAULT
        self.assertGreater(len(encoder.encode(FIELDS)), 60)

    def test_a_never_indexed_field_is_not_kept(self) -> None:
        encoder = Encoder()
        secret = [hpack.NeverIndexedHeaderTuple(b"authorization", b"secret")]
        for _ in range(2):
            block = encoder.encode(secret)
            self.assertEqual(block[0] & 0xF0, 0x10)
            (field,) = hpack.Decoder().decode(block, raw=True)
            self.assertIsInstance(field, hpack.NeverIndexedHeaderTuple)


def encoder_set_to(sizes: Iterable[int]) -> Encoder:
    """An encoder of which the table was set to each of ``sizes`` in turn."""
    encoder = Encoder()
    for size in sizes:
        encoder.header_table_size = size
    return encoder


if __name__ == "__main__":
    unittest.main()
