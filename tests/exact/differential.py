"""Feed the same bytes to plain h2 and to ``Connection``, and make the same calls on both.

    python tests/exact/differential.py --frames 200000 --seed 1

Events, output, errors, states and windows have to agree after every frame and every call, but for
the differences of ``differences.toml``, each recognised by a narrow rule (``rules.py``). What no
rule knows fails the run, with a session that shows it, as short as could be made.
"""

from __future__ import annotations

import argparse
import collections
import enum
import pathlib
import random
import sys
import time
import tomllib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import hpack
import recorded
import rules
import traffic
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import Settings
from hpack import HeaderTuple
from hpack.exceptions import HPACKError
from rules import Difference, Result
from traffic import Call, Frame, Session, Step

from aioh2.connection import Connection, StreamFailed

HERE: Final = pathlib.Path(__file__).resolve().parent
#: Mutated sessions for each legal one.
MUTATIONS: Final = 6
#: Sessions tried, at most, to make one that shows a difference shorter.
ATTEMPTS: Final = 400


# --- what is compared ----------------------------------------------------------------------


def shown(value: Any) -> Any:
    """Return a value of an event as something that can be compared and read."""
    if isinstance(value, HeaderTuple):
        return (type(value).__name__, *value)
    if isinstance(value, (list, tuple)):
        return [shown(part) for part in value]
    if isinstance(value, dict):
        return {shown(key): shown(part) for key, part in value.items()}
    if isinstance(value, enum.Enum) or not hasattr(value, "__dict__"):
        return value
    kind, attributes = type(value).__name__, dict(vars(value))
    if isinstance(value, StreamFailed):
        # h2's event, with the reason besides
        kind = "StreamReset"
        del attributes["reason"]
    return (kind, {name: shown(part) for name, part in sorted(attributes.items())})


def snapshot(connection: H2Connection) -> dict[str, Any]:
    """Return all that h2's API lets one see of a connection, but for what has closed."""
    streams = {
        stream_id: (
            stream.state_machine.state.name,
            stream.inbound_flow_control_window,
            stream.outbound_flow_control_window,
            bool(stream.state_machine.headers_sent),
            bool(stream.state_machine.trailers_sent),
            bool(stream.state_machine.headers_received),
            bool(stream.state_machine.trailers_received),
            stream.max_outbound_frame_size,
        )
        for stream_id, stream in connection.streams.items()
        if not stream.closed
    }
    return {
        "state": connection.state_machine.state.name,
        "streams": streams,
        "highest": (connection.highest_inbound_stream_id, connection.highest_outbound_stream_id),
        "windows": (
            connection.inbound_flow_control_window,
            connection.outbound_flow_control_window,
        ),
        "frame sizes": (connection.max_inbound_frame_size, connection.max_outbound_frame_size),
        "local settings": settings_of(connection.local_settings),
        "remote settings": settings_of(connection.remote_settings),
        "list size": connection.decoder.max_header_list_size,
        "table size": connection.decoder.max_allowed_table_size,
        "table": tuple(connection.decoder.header_table.dynamic_entries),
    }


def settings_of(settings: Settings) -> dict[int, int | None]:
    """Return settings, None for one that holds only once it is acknowledged."""
    # h2's mapping has such keys, but no values for them
    return {int(key): settings.get(key) for key in settings}


class Side:
    """A connection, h2's or ours, and a reader of what it writes."""

    def __init__(self, connection: H2Connection) -> None:
        self.connection = connection
        self._reader = hpack.Decoder(2**31)
        self._block = b""

    def take(self, step: Step) -> Result:
        """Receive bytes or make a call; return all that can be seen of it."""
        error: BaseException | None = None
        found: Any = None
        try:
            if isinstance(step, Call):
                found = getattr(self.connection, step.name)(*step.arguments, **step.options)
            elif isinstance(self.connection, Connection):
                failed = self.connection.failure
                found = self.connection.receive(step)
                if self.connection.failure is not failed:
                    error = self.connection.failure
            else:
                found = self.connection.receive_data(step)
        except Exception as raised:
            error = raised
        out = self.connection.data_to_send()
        reasons = [
            event.reason
            for event in (found if isinstance(found, list) else [])
            if isinstance(event, StreamFailed)
        ]
        return Result(error, shown(found) or [], self.frames(out), out, reasons)

    def frames(self, out: bytes) -> list[Any]:
        """Cut what was written, and decode the blocks in it."""
        cut: list[Any] = []
        client = out.startswith(traffic.PREFACE)
        for kind, flags, stream_id, payload, _ in traffic.cut(out, client=not client):
            assert payload is not None or kind == -1
            payload = payload or b""
            if kind in (traffic.HEADERS, traffic.PUSH_PROMISE, traffic.CONTINUATION):
                start, payload = self._start(kind, flags, payload)
                self._block += payload
                if not flags & traffic.END_HEADERS:
                    continue
                fields = self._fields()
                self._block = b""
                cut.append((kind, flags, stream_id, start, fields))
            else:
                cut.append((kind, flags, stream_id, payload))
        return cut

    def _fields(self) -> Any:
        # what the peer has asked for, so that the decoder misses a size that is not announced
        self._reader.max_allowed_table_size = self.connection.remote_settings.header_table_size
        try:
            return shown(list(self._reader.decode(self._block, raw=True)))
        except HPACKError as error:
            return f"{rules.UNREADABLE}: {error}"

    def _start(self, kind: int, flags: int, payload: bytes) -> tuple[bytes, bytes]:
        length = 4 if kind == traffic.PUSH_PROMISE else 0
        if kind == traffic.HEADERS and flags & traffic.PRIORITIZED:
            length = 5
        return payload[:length], payload[length:]


# --- one session ---------------------------------------------------------------------------


def split(session: Session) -> Iterator[Step | Frame]:
    """Return the steps with received bytes cut into frames."""
    cutter = traffic.Cutter(client=session.client)
    for step in session.steps:
        if isinstance(step, Call):
            yield step
        else:
            yield from cutter.feed(step)


class Unknown(NamedTuple):
    """A difference that no rule knows: what all are that come of the same cause, and its story."""

    signature: Any
    story: str


class Outcome(NamedTuple):
    """What became of a session: frames and calls compared, the differences, the last if unknown."""

    frames: int
    calls: int
    known: list[str]
    unknown: Unknown | None


def compare(session: Session, seed: int) -> Outcome:
    """Run a session through both; stop where the states part, or a difference is not known."""
    r = random.Random(seed)
    config = H2Configuration(client_side=session.client, **session.flags)
    plain, ours = Side(H2Connection(config)), Side(Connection(config))
    logs = r.random() < 0.5
    if logs:
        ours.connection.frame_log = lambda direction, frame, fields: None
    reader = rules.Reader(client=session.client)
    frames = calls = 0
    known: list[str] = []
    before = snapshot(plain.connection)
    taken: list[Step] = []
    results: list[Result] = []
    # After which steps open streams were counted, which makes h2 forget closed ones.
    counted: set[int] = set()
    unknown = None
    for step in split(session):
        raw = step if isinstance(step, Call) else step.raw
        a, b = plain.take(raw), ours.take(raw)
        taken.append(raw)
        results.append(b)
        if isinstance(step, Call):
            calls += 1
        else:
            frames += 1
            reader.received(step)
        after = snapshot(plain.connection), snapshot(ours.connection)
        what = differs(a, b)
        over = a.error is not None and b.error is not None and not isinstance(step, Call)
        if not over:
            what += [name for name in after[0] if after[0][name] != after[1][name]]
        if not over and r.random() < 0.2:
            counted.add(len(results))
            counts = [
                (c.open_inbound_streams, c.open_outbound_streams)
                for c in (plain.connection, ours.connection)
            ]
            what += ["open streams"] if counts[0] != counts[1] else []
        if what:
            difference = Difference(step, a, b, before, after, what, reader)
            name = rules.name_of(difference)
            if name is None:
                unknown = Unknown(signature(difference), describe(difference))
                break
            known.append(name)
            if name not in rules.HARMLESS or any(part in what for part in after[0]):
                break
        if a.error is not None and not isinstance(step, Call):
            break
        reader.done(step, a, before)
        before = after[0]
    if unknown is None:
        unknown = cut_otherwise(session, taken, results, counted, r, not logs)
    return Outcome(frames, calls, known, unknown)


def differs(a: Result, b: Result) -> list[str]:
    """Return what of two results is not the same."""
    what = []
    if rules.kind_of(a.error) != rules.kind_of(b.error):
        what.append("error")
    if a.found != b.found and (a.error is None or isinstance(b.error, type(None))):
        what.append("found")
    if a.frames != b.frames:
        what.append("output")
    return what


def cut_otherwise(
    session: Session,
    taken: list[Step],
    results: list[Result],
    counted: set[int],
    r: random.Random,
    logs: bool,
) -> Unknown | None:
    """Feed ``Connection`` the same bytes in random pieces, by its other lanes: nothing differs."""
    config = H2Configuration(client_side=session.client, **session.flags)
    side = Side(Connection(config))
    if logs:
        side.connection.frame_log = lambda direction, frame, fields: None
    events: list[Any] = []
    out = b""
    expected: list[Any] = []
    written = b""
    waiting = b""

    def flush() -> None:
        nonlocal waiting, out
        while waiting:
            size = r.choice((1, 5, 9, 20, 300, 100_000))
            result = side.take(waiting[:size])
            waiting = waiting[size:]
            events.extend(result.found)
            out += result.out

    for number, (step, result) in enumerate(zip(taken, results, strict=True), 1):
        if isinstance(step, bytes):
            waiting += step
            expected += result.found
        else:
            flush()
            again = side.take(step)
            out += again.out
            if rules.kind_of(again.error) != rules.kind_of(result.error):
                return cut_story(f"{step}: {again.error!r}, not {result.error!r}")
        written += result.out
        if number in counted:
            flush()
            side.connection.open_inbound_streams  # noqa: B018 - for what it does
        if not waiting and (events != expected or out != written):
            return cut_story(f"{step!r}: {events} {out!r}, not {expected} {written!r}")
    flush()
    if events != expected or out != written:
        return cut_story(f"at the end: {events} {out!r}, not {expected} {written!r}")
    return None


def cut_story(story: str) -> Unknown:
    return Unknown("cut otherwise", f"cut otherwise, {story}")


def signature(d: Difference) -> Any:
    kind = d.step.name if isinstance(d.step, Call) else d.step.kind
    return (kind, d.what, rules.kind_of(d.a.error), rules.kind_of(d.b.error))


def describe(d: Difference) -> str:
    """Say what h2 does and what ours does."""
    lines = [f"step: {d.step}", f"differs: {', '.join(d.what)}"]
    for name, result, state in (("h2  ", d.a, d.after[0]), ("ours", d.b, d.after[1])):
        lines.append(f"{name} error {result.error!r}")
        lines.append(f"{name} found {result.found}")
        lines.append(f"{name} wrote {result.frames}")
        for part in d.what:
            if part in state:
                lines.append(f"{name} {part}: {state[part]}")
    lines.append(f"before: {d.before['state']} {d.before['streams']} {d.before['highest']}")
    return "\n".join(lines)


def shorten(session: Session, seed: int) -> tuple[Session, str]:
    """Leave out steps and frames while a difference stays that no rule knows."""
    found = compare(session, seed).unknown
    assert found is not None
    wanted = found.signature
    pieces: list[Step] = []
    for part in split(session):
        pieces.append(part if isinstance(part, Call) else part.raw)
    attempts = ATTEMPTS
    size = max(1, len(pieces) // 2)
    while size and attempts:
        at = 0
        while at < len(pieces) and attempts:
            attempts -= 1
            shorter = session._replace(steps=pieces[:at] + pieces[at + size :])
            again = compare(shorter, seed).unknown
            if again is not None and again.signature == wanted:
                pieces, session, found = shorter.steps, shorter, again
            else:
                at += size
        size //= 2
    return session, found.story


# --- many sessions -------------------------------------------------------------------------


def sessions(seed: int) -> Iterator[tuple[str, int, Session]]:
    """Return recorded sessions, then generated ones without end; mutated ones of each."""
    for name, session in recorded.load():
        yield name, seed, session
        yield from mutated(name, seed, session)
    while True:
        name = f"walk {seed}"
        session = traffic.walk(random.Random(seed), 120)
        yield name, seed, session
        yield from mutated(name, seed, session)
        seed += 1


def mutated(name: str, seed: int, session: Session) -> Iterator[tuple[str, int, Session]]:
    for number in range(MUTATIONS):
        r = random.Random(f"{name} {seed} {number}")
        yield f"{name}, mutation {number}", seed * MUTATIONS + number, traffic.mutate(r, session)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--frames", type=int, default=200_000, help="received frames to compare")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unknown", type=int, default=5, help="stop after so many differences")
    options = parser.parse_args()
    rules.check(tomllib.loads((HERE / "differences.toml").read_text(encoding="utf-8")))
    counts: collections.Counter[str] = collections.Counter()
    known: collections.Counter[str] = collections.Counter()
    started = time.process_time()
    for name, seed, session in sessions(options.seed):
        outcome = compare(session, seed)
        counts["sessions"] += 1
        counts["frames"] += outcome.frames
        counts["calls"] += outcome.calls
        known.update(outcome.known)
        if outcome.unknown is not None:
            counts["unknown differences"] += 1
            shortest, found = shorten(session, seed)
            print(f"--- {name}, seed {options.seed}\n{found}\nsession: {shortest}\n")
        if counts["frames"] >= options.frames or counts["unknown differences"] >= options.unknown:
            break
    for name, count in known.most_common():
        print(f"{count:8} {name}")
    totals = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(
        f"{totals}; {sum(known.values())} known differences; {time.process_time() - started:.0f} s"
    )
    return int(counts["unknown differences"] > 0)


if __name__ == "__main__":
    sys.exit(main())
