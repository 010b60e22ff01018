"""``codec``: what an encoder announces about its table, and that any decoder can follow it."""

from __future__ import annotations

import unittest
from collections.abc import Iterable
from itertools import product
from random import Random
from typing import Any

import hpack
from hpack.hpack import decode_integer
from hpack.table import HeaderTable
from hypothesis import given, settings
from hypothesis import strategies as st

from aioh2.codec import Decoder, Encoder, Excess

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


# --- what is remembered ----------------------------------------------------------------------


class TestDecoder(unittest.TestCase):
    """Any input means to it what it means to hpack's: fields, table and kind of error."""

    NAMES = (b":method", b":path", b"x-a", b"cookie", b"authorization", b"zz")

    def a_field(self, random: Random) -> hpack.HeaderTuple:
        kind = hpack.NeverIndexedHeaderTuple if random.random() < 0.1 else hpack.HeaderTuple
        return kind(
            random.choice(self.NAMES), bytes(random.choices(b"abc/", k=random.randint(0, 8)))
        )

    def a_block(self, random: Random, encoder: hpack.Encoder, before: list[bytes]) -> bytes:
        """Make a legal block, one that was there before, one that is damaged, or noise."""
        dice = random.random()
        if dice < 0.5 or not before:
            if random.random() < 0.1:
                encoder.header_table_size = random.choice([0, 50, 200, 4096])
            fields = [self.a_field(random) for _ in range(random.randint(0, 6))]
            return encoder.encode(fields, huffman=random.random() < 0.5)
        if dice < 0.7:
            return random.choice(before)
        if dice < 0.95:
            block = bytearray(random.choice(before))
            for _ in range(random.randint(1, 3)):
                if block:
                    block[random.randrange(len(block))] = random.randrange(256)
            return bytes(block[: random.randint(0, len(block))])
        return random.randbytes(random.randint(0, 12))

    def outcome(self, decoder: hpack.Decoder, block: bytes) -> Any:
        try:
            fields: Any = [(type(field), *field) for field in decoder.decode(block, raw=True)]
        except hpack.HPACKError as error:
            fields = type(error)
        table = decoder.header_table
        return fields, [tuple(entry) for entry in table.dynamic_entries], table.maxsize

    def test_as_hpack_does(self) -> None:
        for seed in range(40):
            random, encoder, before = Random(seed), hpack.Encoder(), list[bytes]()
            plain, ours = hpack.Decoder(), Decoder()
            for _ in range(60):
                block = self.a_block(random, encoder, before)
                before.append(block)
                for name, values in (
                    ("max_header_list_size", [40, 200, 65_536]),
                    ("max_allowed_table_size", [0, 100, 4_096]),
                ):
                    if random.random() < 0.05:
                        value = random.choice(values)
                        setattr(plain, name, value)
                        setattr(ours, name, value)
                self.assertEqual(
                    self.outcome(ours, block), self.outcome(plain, block), (seed, block)
                )

    def test_an_entry_whose_index_takes_two_bytes(self) -> None:
        encoder, ours = hpack.Encoder(), Decoder()
        fields = [hpack.HeaderTuple(b"%d" % number, b"") for number in range(100)]
        for _ in range(2):
            block = encoder.encode(fields)
            self.assertEqual([*ours.decode(block, raw=True)], fields)
        self.assertEqual(block[:2], b"\xff" + bytes([62 + 99 - 127]))

    def test_as_text(self) -> None:
        block = hpack.Encoder().encode([("a", "b")])
        self.assertEqual(list(Decoder().decode(block)), [("a", "b")])

    def test_remembered_while_the_table_stands(self) -> None:
        encoder, decoder = hpack.Encoder(), Decoder()
        decoder.decode(encoder.encode([(b"a", b"b")]), raw=True)
        block = encoder.encode([(b"a", b"b")])
        first = decoder.decode(block, raw=True)
        self.assertIs(decoder.decode(block, raw=True), first)
        decoder.decode(encoder.encode([(b"c", b"d")]), raw=True)
        # the same octets now name what came last
        self.assertEqual(list(decoder.decode(block, raw=True)), [(b"c", b"d")])

    def test_what_is_never_indexed_is_not_remembered(self) -> None:
        decoder = Decoder()
        block = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(b"a", b"b")])
        self.assertIsNot(decoder.decode(block, raw=True), decoder.decode(block, raw=True))

    def test_what_is_remembered_is_bounded(self) -> None:
        decoder = Decoder()
        for number in range(3 * Decoder.BLOCKS):
            value = str(number).encode()
            decoder.decode(b"\x00\x01a" + bytes([len(value)]) + value, raw=True)
        self.assertLessEqual(len(decoder._memo), Decoder.BLOCKS)


class TestBounds(unittest.TestCase):
    """What a block may hold is bounded before it is built."""

    #: The decoder's own way, and hpack's.
    WAYS = (True, False)

    def refused(self, block: bytes, limit: str, *, memo: bool = True) -> None:
        decoder = Decoder(memo=memo)
        decoder.max_fields = 5
        with self.assertRaises(Excess) as caught:
            decoder.decode(block, raw=True)
        self.assertEqual(caught.exception.limit, limit)

    def test_fields(self) -> None:
        literals = b"".join(b"\x00\x01a\x01" + bytes([value]) for value in range(6))
        for block in (b"\x82" * 6, literals, b"\x82" * 3 + literals):
            for memo in self.WAYS:
                self.refused(block, "max_header_fields", memo=memo)
                decoder = Decoder(memo=memo)
                decoder.max_fields = 6
                if block != b"\x82" * 3 + literals:
                    self.assertEqual(len(list(decoder.decode(block, raw=True))), 6)

    def test_fields_beyond_the_limit_are_not_read(self) -> None:
        # an index that does not exist
        self.refused(b"\x82" * 6 + b"\xff\xff\xff", "max_header_fields")

    def test_the_default(self) -> None:
        decoder = Decoder()
        self.assertEqual(len(list(decoder.decode(b"\x82" * 256, raw=True))), 256)
        with self.assertRaises(Excess):
            decoder.decode(b"\x82" * 257, raw=True)

    def test_table_sizes(self) -> None:
        decoder = Decoder()
        self.assertEqual(len(list(decoder.decode(b"\x20\x3f\xe1\x1f\x82", raw=True))), 1)
        self.refused(b"\x20\x20\x20\x82", "table_size_updates")
        self.assertEqual(len(list(decoder.decode(b"\x20\x20\x82", raw=True))), 1)


class TestEncoderMemo(unittest.TestCase):
    FIELDS = (hpack.HeaderTuple(b":status", b"200"), hpack.HeaderTuple(b"a", b"b"))

    def test_the_same_block_while_the_table_stands(self) -> None:
        plain, ours, peer = hpack.Encoder(), Encoder(), hpack.Decoder()
        for step in range(6):
            if step == 3:
                other = (hpack.HeaderTuple(b"c", b"d"),)
                self.assertEqual(peer.decode(ours.encode(other), raw=True), [*other])
                plain.encode(other)
            block = ours.encode(self.FIELDS)
            self.assertEqual(block, plain.encode(self.FIELDS))
            self.assertEqual(peer.decode(block, raw=True), [*self.FIELDS])

    def test_a_secret_is_not_taken_for_its_equal(self) -> None:
        plain, ours = hpack.Encoder(), Encoder()
        secret = tuple(hpack.NeverIndexedHeaderTuple(*field) for field in self.FIELDS)
        self.assertEqual(secret, self.FIELDS)
        peer = hpack.Decoder()
        for fields in (secret, self.FIELDS, self.FIELDS, secret, secret, self.FIELDS):
            block = ours.encode(fields)
            if fields is self.FIELDS:
                self.assertEqual(block, plain.encode(fields))
            self.assertEqual(
                [(type(field), *field) for field in peer.decode(block, raw=True)],
                [(type(field), *field) for field in fields],
            )
        self.assertEqual(
            [type(field) for list_ in ours._blocks for field in list_], [hpack.HeaderTuple] * 2
        )

    def test_other_forms_of_a_list(self) -> None:
        """What hpack takes is taken, and means the same."""
        encoder, peer = Encoder(), hpack.Decoder()
        for headers in (
            [("a", "b"), (b"c", b"d")],
            [("a", "b", True)],
            {"c": "d", ":status": "200"},
            ((b"c", b"d"),),
            [(b"c", b"d")],
            iter([(b"c", b"d")]),
        ):
            with self.subTest(headers=headers):
                plain = hpack.Encoder()
                kept = list(headers) if not isinstance(headers, dict) else headers
                fields = hpack.Decoder().decode(plain.encode(kept), raw=True)
                again = kept if not isinstance(headers, tuple) else headers
                self.assertEqual(peer.decode(encoder.encode(again), raw=True), fields)

    def test_a_secret_does_not_show_that_it_is_in_the_table(self) -> None:
        """RFC 7541 section 7.1.3: who can put guesses into the table must not see them found."""
        encoder = Encoder()
        sizes = set()
        for guess in (b"wrong", b"right", b"other"):
            encoder.encode((hpack.HeaderTuple(b"x-key", guess),))
            sizes.add(len(encoder.encode((hpack.NeverIndexedHeaderTuple(b"x-key", b"right"),))))
        self.assertEqual(len(sizes), 1)

    def test_a_value_that_does_not_come_again_stays_out_of_the_table(self) -> None:
        encoder, peer = Encoder(), hpack.Decoder()
        paths = [hpack.HeaderTuple(b":path", b"/%d" % number) for number in range(3)]
        for path in paths:
            fields = (*self.FIELDS, path)
            self.assertEqual(peer.decode(encoder.encode(fields), raw=True), [*fields])
            self.assertEqual([*encoder.header_table.dynamic_entries], [self.FIELDS[1]])
        blocks = [encoder.encode((paths[0],)) for _ in range(3)]
        for block in blocks:
            self.assertEqual(peer.decode(block, raw=True), [paths[0]])
        # into the table when it comes again, and by its index from then on
        self.assertIn(paths[0], encoder.header_table.dynamic_entries)
        self.assertEqual([len(block) for block in blocks[1:]], [1, 1])

    def test_what_fills_the_table_stays_out_of_it(self) -> None:
        encoder, peer = Encoder(), hpack.Decoder()
        large = hpack.HeaderTuple(b"x", b"y" * 4_000)
        for fields in ((*self.FIELDS, large), (large,), (large,)):
            self.assertEqual(peer.decode(encoder.encode(fields), raw=True), [*fields])
            self.assertEqual([*encoder.header_table.dynamic_entries], [self.FIELDS[1]])
        encoder.header_table_size = 0
        for _ in range(3):
            self.assertEqual(peer.decode(encoder.encode(self.FIELDS), raw=True), [*self.FIELDS])
            self.assertEqual([*encoder.header_table.dynamic_entries], [])

    def test_switched_off(self) -> None:
        plain, ours, peer = hpack.Encoder(), Encoder(memo=False), Decoder(memo=False)
        fields = (*self.FIELDS, hpack.HeaderTuple(b":path", b"/once"))
        for _ in range(3):
            block = ours.encode(fields)
            self.assertEqual(block, plain.encode(fields))
            self.assertEqual([*peer.decode(block, raw=True)], [*fields])
        self.assertEqual((ours._blocks, peer._memo), ({}, {}))

    def test_a_pending_size_is_announced(self) -> None:
        encoder = Encoder()
        for _ in range(2):
            encoder.encode(self.FIELDS)
        encoder.header_table_size = 100
        self.assertEqual(announced(encoder.encode(self.FIELDS)), [100])
        self.assertEqual(announced(encoder.encode(self.FIELDS)), [])

    def test_what_is_remembered_is_bounded(self) -> None:
        encoder = Encoder()
        known = [field for field in HeaderTable.STATIC_TABLE if field[1]]
        lists = [
            tuple(hpack.HeaderTuple(*field) for field in pair) for pair in product(known, known)
        ]
        self.assertGreater(len(lists), Encoder.LISTS / 2)
        for pair in lists:
            for more in ((), pair, pair + pair):
                encoder.encode(pair + more)
                self.assertLessEqual(len(encoder._blocks), Encoder.LISTS)
        self.assertGreater(len(encoder._blocks), 0)
        encoder.encode(pair * Encoder.LONGEST)
        self.assertNotIn(pair * Encoder.LONGEST, encoder._blocks)
        for number in range(2_000):
            encoder.encode((hpack.HeaderTuple(b":path", b"/%d" % number),))
        self.assertLessEqual(len(encoder._seen), Encoder.LISTS)
        self.assertLessEqual(len(encoder._pieces), Encoder.LISTS)
