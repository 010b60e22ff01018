"""How streams and connections end: every waiter crossed with every way to end.

One class for what waits on a stream, one for what waits on the connection; then what ended
streams leave, and that they leave nothing behind.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import gc
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from hyperframe.frame import (
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
)

import aioh2
from aioh2 import (
    ConnectionClosed,
    ErrorCodes,
    SendException,
    SettingCodes,
    StreamClosed,
    StreamReset,
)
from aioh2.testing import connected_pair

from .wire import POST, PREFACE, REQUEST, RESPONSE, Case, Peer, SkippingLoop, settle, skip

TRAILERS = [("t", "u")]
BODY = b"0123456789abcdefghij"
WINDOW = {SettingCodes.INITIAL_WINDOW_SIZE: 10}
BAD_PING = b"\0\0\1\6\0\0\0\0\0x"


class Ended(NamedTuple):
    """What an error says of how something ended."""

    kind: type[aioh2.AIOH2Exception]
    code: int | None
    initiator: str
    retryable: bool = False


@dataclasses.dataclass
class Scene:
    """A connection with two streams: a call waits on ``stream``, the ``other`` is only there."""

    peer: Peer
    other: aioh2.H2Stream
    stream: aioh2.H2Stream
    #: Calls whose turn is before that of the call that is looked at.
    before: list[asyncio.Task[Any]] = dataclasses.field(default_factory=list)

    @property
    def protocol(self) -> aioh2.H2Protocol:
        return self.peer.protocol


@dataclasses.dataclass(frozen=True)
class Waiter:
    """A call that waits on a stream: how it comes to that, and what lets it go on."""

    name: str
    scene: Callable[[], Awaitable[Scene]]
    call: Callable[[Scene], Coroutine[Any, Any, Any]]
    go_on: Callable[[Scene], object]
    result: Any = None
    #: What happens once the call waits.
    then: Callable[[Scene], object] = lambda scene: None
    #: What of ``BODY`` is not framed, where this is a ``send_data``.
    unsent: bytes | None = None
    #: A call that waits for its turn before this one.
    first: Callable[[Scene], Coroutine[Any, Any, Any]] | None = None


Strike = Callable[[Scene], object]


# --- scenes ------------------------------------------------------------------------------------


async def client_scene(settings: dict[int, int] | None = None, **options: Any) -> Scene:
    """Return a client with the open requests 1 and 3."""
    peer = await Peer.of_client(settings=settings, **options)
    other, stream = [await peer.protocol.open_stream(POST) for _ in range(2)]
    await peer.frames()
    return Scene(peer, other, stream)


async def responded_scene() -> Scene:
    """Return a client whose request 3 has got its response's headers."""
    scene = await client_scene()
    scene.peer.respond(3)
    return scene


async def server_scene(settings: dict[int, int] | None = None, **options: Any) -> Scene:
    """Return a server that has begun to answer the open requests 1 and 3."""
    peer = await Peer.of_server(settings=settings, **options)
    peer.request(1, POST, end=False)
    peer.request(3, POST, end=False)
    other, stream = [await anext(peer.protocol) for _ in range(2)]
    for each in other, stream:
        await each.start_response(RESPONSE)
    await peer.frames()
    return Scene(peer, other, stream)


def with_bytes(scene: Callable[[], Awaitable[Scene]]) -> Callable[[], Awaitable[Scene]]:
    """Make a scene in which the bytes ``ab`` have arrived."""

    async def make() -> Scene:
        made = await scene()
        made.peer.data(3, b"ab")
        return made

    return make


async def chunks(stream: aioh2.H2Stream) -> list[bytes]:
    return [chunk async for chunk in stream]


def receiving(side: str, scene: Callable[[], Awaitable[Scene]]) -> list[Waiter]:
    """Return the calls that wait for the peer's body and its end."""

    def waiter(name: str, call: Any, result: Any, *, ahead: bool = False) -> Waiter:
        return Waiter(
            f"{side}: {name}",
            with_bytes(scene) if ahead else scene,
            call,
            lambda scene: scene.peer.data(3, b"cde", end=True),
            result,
        )

    return [
        waiter("read", lambda scene: scene.stream.read(), b"cde"),
        waiter("read(3)", lambda scene: scene.stream.read(3), b"cde"),
        waiter("read(-1)", lambda scene: scene.stream.read(-1), b"abcde", ahead=True),
        waiter("read_exactly", lambda scene: scene.stream.read_exactly(5), b"abcde", ahead=True),
        waiter("async for", lambda scene: chunks(scene.stream), [b"cde"]),
        dataclasses.replace(
            waiter("recv_trailers", lambda scene: scene.stream.recv_trailers(), TRAILERS),
            go_on=lambda scene: scene.peer.send(scene.peer.headers(3, TRAILERS, "END_STREAM")),
        ),
    ]


def sending(side: str, scene: Any) -> list[Waiter]:
    """Return the calls that wait until they can send."""

    async def connection_window() -> Scene:
        made: Scene = await scene({SettingCodes.INITIAL_WINDOW_SIZE: 100_000})
        await made.other.send_data(bytes(65_525))
        await made.peer.frames()
        return made

    async def paused() -> Scene:
        made: Scene = await scene()
        made.protocol.pause_writing()
        return made

    def pause_at_write(scene: Scene) -> None:
        write = scene.peer.transport.write

        def pause(data: bytes) -> None:
            write(data)
            scene.protocol.pause_writing()

        scene.peer.transport.write = pause  # type: ignore[method-assign]
        scene.peer.window(3, 1000)

    def resume(scene: Scene) -> None:
        scene.peer.transport.__dict__.pop("write", None)
        scene.protocol.resume_writing()

    def waiter(name: str, scene: Any, go_on: Any, unsent: bytes, **more: Any) -> Waiter:
        return Waiter(
            f"{side}: send_data, {name}",
            scene,
            lambda scene: scene.stream.send_data(BODY),
            go_on,
            unsent=unsent,
            **more,
        )

    def open_stream_window(scene: Scene) -> None:
        scene.peer.window(3, 1000)

    stream_window = waiter("stream window", lambda: scene(WINDOW), open_stream_window, BODY[10:])
    return [
        stream_window,
        waiter(
            "connection window",
            connection_window,
            lambda scene: scene.peer.window(0, 1000),
            BODY[10:],
        ),
        waiter("transport", paused, resume, BODY),
        waiter("written", lambda: scene(WINDOW), resume, b"", then=pause_at_write),
        dataclasses.replace(
            stream_window,
            name=f"{side}: end",
            call=lambda scene: scene.stream.end(),
            first=stream_window.call,
            unsent=None,
        ),
        dataclasses.replace(
            stream_window,
            name=f"{side}: send_trailers",
            call=lambda scene: scene.stream.send_trailers(TRAILERS),
            first=stream_window.call,
            unsent=None,
        ),
    ]


RESPONSES = [
    Waiter(
        "client: recv_response",
        client_scene,
        lambda scene: scene.stream.recv_response(),
        lambda scene: scene.peer.respond(3),
        RESPONSE,
    ),
    Waiter(
        "client: recv_informational",
        client_scene,
        lambda scene: scene.stream.recv_informational(),
        lambda scene: scene.peer.respond(3, [(":status", "103")]),
        [(":status", "103")],
    ),
    Waiter(
        "client: recv_push",
        lambda: client_scene(enable_push=True),
        lambda scene: scene.protocol.recv_push(3),
        lambda scene: scene.peer.send(scene.peer.promise(3, 2)),
        (2, REQUEST),
    ),
]
ON_CLIENT_RECEIVING = RESPONSES + receiving("client", responded_scene)
ON_SERVER_RECEIVING = receiving("server", server_scene)
ON_CLIENT_SENDING = sending("client", client_scene)
ON_SERVER_SENDING = sending("server", server_scene)
ON_CLIENT = ON_CLIENT_RECEIVING + ON_CLIENT_SENDING
ON_SERVER = ON_SERVER_RECEIVING + ON_SERVER_SENDING
EVERYWHERE = ON_CLIENT + ON_SERVER


# --- strikes -----------------------------------------------------------------------------------


def reset_by_peer(code: int) -> Strike:
    return lambda scene: scene.peer.reset(3, code)


def lost(error: Exception | None = None) -> Strike:
    return lambda scene: scene.peer.lose(error)


def goaway(last: int, code: int = ErrorCodes.NO_ERROR) -> Strike:
    return lambda scene: scene.peer.goaway(last, code)


def malformed(scene: Scene) -> None:
    """Break a rule of the stream: HEADERS that are neither a response nor trailers."""
    scene.peer.send(scene.peer.headers(3, TRAILERS))


def connection_error(scene: Scene) -> None:
    """Break a rule of the connection: a PING of one byte."""
    scene.peer.send_bytes(BAD_PING)


def closed_here(scene: Scene) -> None:
    scene.protocol.close_connection(ErrorCodes.ENHANCE_YOUR_CALM, b"enough")


def reset_here(scene: Scene) -> None:
    scene.stream.reset(ErrorCodes.INTERNAL_ERROR)


def futures_in(root: object) -> list[asyncio.Future[Any]]:
    """Return the futures that an object of aioh2 holds, directly or through others."""
    containers = (dict, list, tuple, set, frozenset, collections.deque)
    found, seen, ahead = [], {id(root)}, [root]
    while ahead:
        for each in gc.get_referents(ahead.pop()):
            if id(each) in seen or isinstance(each, type):
                continue
            seen.add(id(each))
            if isinstance(each, asyncio.Future):
                found.append(each)
            elif isinstance(each, containers) or type(each).__module__.startswith("aioh2"):
                ahead.append(each)
    return found


class Ends(Case):
    """What the tables below are checked with."""

    async def now(self, awaitable: Awaitable[Any]) -> Any:
        """Return what comes without another word of the peer; what would wait fails."""
        task = asyncio.ensure_future(awaitable)
        self.addCleanup(task.cancel)
        await settle()
        self.assertTrue(task.done(), "it still waits")
        return task.result()

    async def begin(self, waiter: Waiter) -> tuple[Scene, asyncio.Task[Any]]:
        scene = await waiter.scene()
        if waiter.first is not None:
            scene.before.append(await self.waiting(waiter.first(scene)))
        task = await self.waiting(waiter.call(scene))
        waiter.then(scene)
        await settle()
        self.assertFalse(task.done(), task)
        return scene, task

    def check_error(
        self, error: BaseException | None, ended: Ended, unsent: bytes | None = None
    ) -> None:
        if unsent is not None:
            self.assertIs(type(error), aioh2.SendException)
            assert isinstance(error, aioh2.SendException)
            self.assertEqual(error.data, unsent)
            self.assertIs(error.retryable, ended.retryable)
            error = error.__cause__
        self.assertIs(type(error), ended.kind)
        assert isinstance(error, ConnectionClosed | StreamReset)
        said = Ended(type(error), error.error_code, error.initiator, error.retryable)
        self.assertEqual(said, ended)
        if isinstance(error, StreamReset):
            self.assertEqual(error.stream_id, 3)

    async def check_ends(
        self, waiters: Iterable[Waiter], strike: Strike, ended: Ended, *more: Strike
    ) -> None:
        """Check that the waiters get ``ended`` from the last of the strikes, at once."""
        for waiter in waiters:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                for each in (strike, *more):
                    self.assertFalse(task.done(), task)
                    each(scene)
                    await settle()
                self.assertTrue(task.done(), "it still waits")
                self.check_error(task.exception(), ended, waiter.unsent)
                for before in scene.before:
                    self.check_error(before.exception(), ended, BODY[10:])

    async def check_goes_on(self, waiters: Iterable[Waiter], strike: Strike) -> None:
        """Check that the waiters do not notice the strike."""
        for waiter in waiters:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                strike(scene)
                await settle()
                self.assertFalse(task.done(), task)
                waiter.go_on(scene)
                self.assertEqual(await self.now(task), waiter.result)
                if waiter in ON_CLIENT_SENDING + ON_SERVER_SENDING:
                    sent = await scene.peer.frames(DataFrame)
                    self.assertEqual(b"".join(f.data for f in sent if f.stream_id == 3), BODY)
                for before in scene.before:
                    self.assertIsNone(before.result())


class TestStreamWaiters(Ends):
    async def test_reset_by_peer(self) -> None:
        for code, retryable in (
            (ErrorCodes.CANCEL, False),
            (ErrorCodes.REFUSED_STREAM, True),
            (ErrorCodes.NO_ERROR, False),
            (0xABCDEF, False),
        ):
            with self.subTest(code):
                ended = Ended(StreamReset, code, "peer", retryable)
                await self.check_ends(EVERYWHERE, reset_by_peer(code), ended)

    async def test_malformed(self) -> None:
        ended = Ended(StreamReset, ErrorCodes.PROTOCOL_ERROR, "local")
        await self.check_ends(EVERYWHERE, malformed, ended)

    async def test_reset_by_another_task(self) -> None:
        ended = Ended(StreamReset, ErrorCodes.INTERNAL_ERROR, "local")
        await self.check_ends(EVERYWHERE, reset_here, ended)

    async def test_a_reset_leaves_the_other_stream_alone(self) -> None:
        for strike in (reset_by_peer(ErrorCodes.CANCEL), malformed, reset_here):
            for waiter in EVERYWHERE:
                with self.subTest(waiter.name, strike=strike):
                    scene, task = await self.begin(waiter)
                    strike(scene)
                    await settle()
                    for each in (task, *scene.before):
                        self.assertIsNotNone(each.exception())
                    other = await self.waiting(scene.other.recv_trailers())
                    if scene.protocol.client_side:
                        scene.peer.respond(1)
                    scene.peer.data(1, b"", end=True)
                    self.assertEqual(await self.now(other), [])

    async def test_lost(self) -> None:
        ended = Ended(ConnectionClosed, None, "transport")
        await self.check_ends(EVERYWHERE, lost(), ended)

    async def test_lost_with_an_exception(self) -> None:
        error = ConnectionResetError(104, "Connection reset by peer")
        ended = Ended(ConnectionClosed, None, "transport")
        await self.check_ends(EVERYWHERE, lost(error), ended)

    async def test_the_exception_of_a_loss_is_the_cause(self) -> None:
        error = ConnectionResetError(104, "Connection reset by peer")
        for waiter in ON_CLIENT_RECEIVING + ON_SERVER_RECEIVING:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                scene.peer.lose(error)
                with self.assertRaisesRegex(ConnectionClosed, "Connection reset by peer") as caught:
                    await task
                self.assertIs(caught.exception.__cause__, error)

    async def test_goaway_below(self) -> None:
        for code in (ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR):
            with self.subTest(code):
                ended = Ended(ConnectionClosed, code, "peer", True)
                await self.check_ends(ON_CLIENT, goaway(1, code), ended)

    async def test_goaway_below_names_the_last_stream(self) -> None:
        scene, task = await self.begin(RESPONSES[0])
        scene.peer.goaway(1, ErrorCodes.ENHANCE_YOUR_CALM, b"too many")
        with self.assertRaisesRegex(ConnectionClosed, "ENHANCE_YOUR_CALM.*a retry is safe") as got:
            await task
        self.assertEqual((got.exception.last_stream_id, got.exception.debug_data), (1, b"too many"))

    async def test_goaway_below_leaves_earlier_streams_alone(self) -> None:
        scene, task = await self.begin(RESPONSES[0])
        other = await self.waiting(scene.other.recv_response())
        scene.peer.goaway(1)
        self.assertTrue((await asyncio.gather(task, return_exceptions=True))[0].retryable)
        self.assertFalse(other.done())
        scene.peer.respond(1)
        self.assertEqual(await self.now(other), RESPONSE)

    async def test_goaway_at_or_above(self) -> None:
        for last in (3, 5, 2**31 - 1):
            for code in (ErrorCodes.NO_ERROR, ErrorCodes.INTERNAL_ERROR):
                with self.subTest(last=last, code=code):
                    await self.check_goes_on(ON_CLIENT, goaway(last, code))

    async def test_goaway_of_a_client_is_not_about_its_own_streams(self) -> None:
        await self.check_goes_on(ON_SERVER, goaway(0))

    async def test_goaway_below_a_push(self) -> None:
        peer = await Peer.of_server(settings={SettingCodes.INITIAL_WINDOW_SIZE: 0})
        peer.request(1, end=False)
        parent = await anext(peer.protocol)
        pushes = [await parent.push(REQUEST) for _ in range(2)]
        for push in pushes:
            await push.start_response(RESPONSE)
        tasks = [await self.waiting(push.send_data(BODY)) for push in pushes]
        peer.goaway(2)
        await settle()
        self.assertFalse(tasks[0].done())
        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer", True)
        self.check_error(tasks[1].exception(), ended, BODY)

    async def test_goaway_with_a_code_and_loss(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.INTERNAL_ERROR, "peer")
        strike = goaway(3, ErrorCodes.INTERNAL_ERROR)
        await self.check_ends(EVERYWHERE, strike, ended, lost())

    async def test_second_goaway_below(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer", True)
        await self.check_ends(ON_CLIENT, goaway(2**31 - 1), ended, goaway(1))

    async def test_connection_error(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.FRAME_SIZE_ERROR, "local")
        await self.check_ends(EVERYWHERE, connection_error, ended)

    async def test_closed_by_this_side(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.ENHANCE_YOUR_CALM, "local")
        await self.check_ends(EVERYWHERE, closed_here, ended)

    async def test_grace_time_is_over(self) -> None:
        def shut_down(scene: Scene) -> None:
            task = asyncio.ensure_future(scene.protocol.shutdown(0))
            self.addCleanup(task.cancel)

        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "local")
        await self.check_ends(EVERYWHERE, shut_down, ended)

    async def test_all_waiters_of_a_stream_at_once(self) -> None:
        waiters = (*RESPONSES, *receiving("client", client_scene)[::5], *ON_CLIENT_SENDING[:1])
        for strike, ended in (
            (reset_by_peer(ErrorCodes.CANCEL), Ended(StreamReset, ErrorCodes.CANCEL, "peer")),
            (lost(), Ended(ConnectionClosed, None, "transport")),
            (goaway(0), Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer", True)),
        ):
            scene = await client_scene(WINDOW, enable_push=True)
            tasks = [await self.waiting(waiter.call(scene)) for waiter in waiters]
            strike(scene)
            await settle()
            for waiter, task in zip(waiters, tasks, strict=True):
                with self.subTest(waiter.name, ended=ended):
                    self.assertTrue(task.done(), "it still waits")
                    self.check_error(task.exception(), ended, waiter.unsent)

    async def test_each_gets_its_own_exception(self) -> None:
        scene = await client_scene()
        tasks = [await self.waiting(scene.stream.recv_response()) for _ in range(2)]
        scene.peer.reset(3)
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
        self.assertEqual(str(first), str(second))
        self.assertIsNot(first, second)

    async def test_later_calls_end_the_same_way(self) -> None:
        for strike, ended in (
            (reset_by_peer(ErrorCodes.CANCEL), Ended(StreamReset, ErrorCodes.CANCEL, "peer")),
            (lost(), Ended(ConnectionClosed, None, "transport")),
            (connection_error, Ended(ConnectionClosed, ErrorCodes.FRAME_SIZE_ERROR, "local")),
        ):
            for waiter in EVERYWHERE:
                with self.subTest(waiter.name, ended=ended):
                    scene = await waiter.scene()
                    strike(scene)
                    await settle()
                    with self.assertRaises(aioh2.AIOH2Exception) as caught:
                        await self.now(waiter.call(scene))
                    unsent = BODY if waiter.unsent is not None else None
                    self.check_error(caught.exception, ended, unsent)

    async def test_sending_after_an_own_reset(self) -> None:
        for waiter in ON_CLIENT_SENDING + ON_SERVER_SENDING:
            with self.subTest(waiter.name):
                scene = await waiter.scene()
                scene.stream.reset()
                with self.assertRaisesRegex(StreamClosed, "stream 3 .*this side has reset it"):
                    await waiter.call(scene)

    async def test_a_call_that_waits_only_for_the_transport_outlives_its_stream(self) -> None:
        """The stream has ended cleanly on both sides, and the transport is still full."""
        waiter = next(waiter for waiter in ON_CLIENT_SENDING if waiter.name.endswith("written"))
        for strike in (lost(), closed_here, connection_error):
            with self.subTest(strike):
                scene = await client_scene(WINDOW)
                task = await self.waiting(scene.stream.send_data(BODY, end_stream=True))
                scene.peer.respond(3, end=True)
                waiter.then(scene)
                await settle()
                self.assertTrue(scene.stream.is_over)
                self.assertFalse(task.done())
                strike(scene)
                await settle()
                self.assertTrue(task.done(), "it still waits")
                self.assertIsInstance(task.exception(), aioh2.AIOH2Exception)

    async def test_a_call_that_waits_only_for_the_transport_goes_on(self) -> None:
        waiter = next(waiter for waiter in ON_CLIENT_SENDING if waiter.name.endswith("written"))
        scene = await client_scene(WINDOW)
        task = await self.waiting(scene.stream.send_data(BODY, end_stream=True))
        scene.peer.respond(3, end=True)
        waiter.then(scene)
        await settle()
        waiter.go_on(scene)
        self.assertIsNone(await self.now(task))

    async def test_end_waits_only_for_the_transport(self) -> None:
        """What ``end`` raises does not depend on how far it has got."""
        written = next(waiter for waiter in ON_CLIENT_SENDING if waiter.name.endswith("written"))
        for waiter in ON_CLIENT_SENDING[-2:]:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                written.then(scene)
                await settle()
                self.assertFalse(task.done())
                scene.peer.reset(3)
                await settle()
                ended = Ended(StreamReset, ErrorCodes.CANCEL, "peer")
                self.check_error(task.exception(), ended)
                self.check_error(scene.before[0].exception(), ended, b"")


class TestStreamWaitersCancelled(Ends):
    async def test_receiving(self) -> None:
        for waiter in ON_CLIENT_RECEIVING + ON_SERVER_RECEIVING:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                task.cancel()
                await settle()
                self.assertTrue(task.cancelled())
                self.assertEqual(futures_in(scene.protocol), [])
                self.assertIsNone(scene.stream.blocked_on)
                again = await self.waiting(waiter.call(scene))
                waiter.go_on(scene)
                self.assertEqual(await self.now(again), waiter.result)

    async def test_receiving_in_the_moment_it_comes(self) -> None:
        for waiter in ON_CLIENT_RECEIVING + ON_SERVER_RECEIVING:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                waiter.go_on(scene)
                task.cancel()
                await settle()
                self.assertTrue(task.cancelled())
                self.assertEqual(await self.now(waiter.call(scene)), waiter.result)

    async def test_one_of_two_readers(self) -> None:
        scene = await responded_scene()
        first, second = [await self.waiting(scene.stream.read()) for _ in range(2)]
        first.cancel()
        await settle()
        self.assertEqual(scene.stream.blocked_on, "peer")
        scene.peer.data(3, b"abc")
        self.assertEqual(await self.now(second), b"abc")

    async def test_in_the_moment_it_ends(self) -> None:
        for waiter in EVERYWHERE:
            for strike in (reset_by_peer(ErrorCodes.CANCEL), closed_here):
                with self.subTest(waiter.name, strike=strike):
                    scene, task = await self.begin(waiter)
                    strike(scene)
                    task.cancel()
                    await settle()
                    self.assertTrue(task.cancelled())
                    for before in scene.before:
                        self.assertIsInstance(before.exception(), aioh2.SendException)

    async def test_send_data(self) -> None:
        for waiter in ON_CLIENT_SENDING[:4] + ON_SERVER_SENDING[:4]:
            with self.subTest(waiter.name):
                assert waiter.unsent is not None
                scene, task = await self.begin(waiter)
                task.cancel()
                await settle()
                self.assertTrue(task.cancelled())
                waiter.go_on(scene)
                scene.peer.window(3, 1000)
                sent = await scene.peer.frames(DataFrame)
                framed = BODY.removesuffix(waiter.unsent)
                self.assertEqual(b"".join(frame.data for frame in sent), framed)
                self.assertEqual(futures_in(scene.protocol), [])
                await scene.stream.send_data(b"later", end_stream=True)
                (frame,) = await scene.peer.frames(DataFrame)
                self.assertEqual((frame.data, frame.flags), (b"later", {"END_STREAM"}))

    async def test_send_data_that_ends_the_stream(self) -> None:
        """Withdrawn, the end is not announced, and data may follow."""
        scene = await client_scene(WINDOW)
        task = await self.waiting(scene.stream.send_data(BODY, end_stream=True))
        task.cancel()
        await settle()
        scene.peer.window(3, 1000)
        await scene.stream.send_data(b"later")
        await scene.stream.end()
        frames = await scene.peer.frames(DataFrame)
        self.assertEqual([frame.data for frame in frames], [BODY[:10], b"later", b""])
        self.assertEqual([bool(frame.flags) for frame in frames], [False, False, True])

    async def test_ending(self) -> None:
        for waiter in ON_CLIENT_SENDING[4:] + ON_SERVER_SENDING[4:]:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                task.cancel()
                await settle()
                self.assertTrue(task.cancelled())
                self.assertFalse(scene.before[0].done())
                waiter.go_on(scene)
                frames = await scene.peer.frames(DataFrame, HeadersFrame)
                self.assertEqual(b"".join(frame.data for frame in frames), BODY)
                self.assertFalse(any("END_STREAM" in frame.flags for frame in frames))
                self.assertEqual(futures_in(scene.protocol), [])
                await waiter.call(scene)
                (end,) = await scene.peer.frames(DataFrame, HeadersFrame)
                self.assertIn("END_STREAM", end.flags)

    async def test_what_the_end_waits_behind(self) -> None:
        """With the data withdrawn, the end needs no window and goes at once."""
        for waiter in ON_CLIENT_SENDING[4:] + ON_SERVER_SENDING[4:]:
            with self.subTest(waiter.name):
                scene, task = await self.begin(waiter)
                await scene.peer.frames()
                scene.before[0].cancel()
                await settle()
                self.assertTrue(task.done(), "it still waits")
                self.assertIsNone(task.result())
                (end,) = await scene.peer.frames(DataFrame, HeadersFrame)
                self.assertIn("END_STREAM", end.flags)
                self.assertEqual(futures_in(scene.protocol), [])

    async def test_nothing_is_left_after_an_end(self) -> None:
        for strike in (reset_by_peer(ErrorCodes.CANCEL), lost(), closed_here, reset_here):
            for waiter in EVERYWHERE:
                with self.subTest(waiter.name, strike=strike):
                    scene, task = await self.begin(waiter)
                    strike(scene)
                    await settle()
                    for each in (task, *scene.before):
                        self.assertIsNotNone(each.exception())
                    self.assertEqual(futures_in(scene.protocol), [])
                    self.assertIsNone(scene.stream.blocked_on)


# --- what waits on the connection --------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Returns:
    """A call comes back with a value."""

    value: Any = None


WAITS = "waits"
HANDSHAKE = "handshake"
# Streams that were in flight, however the shutdown counts them.
ONE_STREAM = "one stream"
BEFORE_SETTINGS = ("start_request before SETTINGS", "wait_open")
ON_CONNECTION = (
    "start_request at the limit",
    "ping",
    "wait_functional",
    "wait_closed",
    "shutdown",
    "recv_request",
    "async for",
    "serve",
)


class TestConnectionWaiters(Ends):
    """Each waits on a connection with the open stream 1."""

    loop_factory = SkippingLoop

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.handled: list[str] = []

    async def start(self, name: str) -> tuple[Peer, Callable[[], Coroutine[Any, Any, Any]]]:
        """Return a connection, and the call that will wait on it."""
        limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
        if name in BEFORE_SETTINGS:
            protocol = aioh2.H2Protocol(True)
            peer = Peer(protocol)
            protocol.connection_made(peer.transport)
        elif name in ON_CONNECTION[:5]:
            peer = await Peer.of_client(settings=limit if name == ON_CONNECTION[0] else None)
            await peer.protocol.open_stream(REQUEST, end_stream=True)
        else:
            peer = await Peer.of_server()
            peer.request(1, POST, end=False)
            if name != "serve":
                await anext(peer.protocol)
        await peer.frames()
        protocol = peer.protocol
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "start_request before SETTINGS": lambda: protocol.start_request(REQUEST),
            "wait_open": protocol.wait_open,
            "start_request at the limit": lambda: protocol.start_request(REQUEST),
            "ping": protocol.ping,
            "wait_functional": protocol.wait_functional,
            "wait_closed": protocol.wait_closed,
            "shutdown": protocol.shutdown,
            "recv_request": protocol.recv_request,
            "async for": lambda: self.collect(protocol),
            "serve": lambda: protocol.serve(self.handle),
        }
        if name == "wait_functional":
            await skip(10)
        return peer, calls[name]

    async def collect(self, protocol: aioh2.H2Protocol) -> list[int]:
        return [stream.id async for stream in protocol]

    async def handle(self, stream: aioh2.H2Stream) -> None:
        try:
            await stream.read()
        except asyncio.CancelledError:
            self.handled.append("cancelled")
            raise
        except StreamReset as error:
            self.handled.append(f"reset: {error.initiator}")
            raise

    def check_outcome(self, task: asyncio.Task[Any], expected: Any) -> None:
        if expected == WAITS:
            self.assertFalse(task.done(), task)
            return
        self.assertTrue(task.done(), "it still waits")
        if isinstance(expected, Ended):
            self.check_error(task.exception(), expected)
        elif expected == HANDSHAKE:
            error = task.exception()
            self.assertIs(type(error), aioh2.HandshakeError)
            assert isinstance(error, aioh2.HandshakeError)
            self.assertTrue(error.retryable)
        elif expected == ONE_STREAM:
            self.assertEqual(sum(task.result()), 1)
        else:
            self.assertEqual(task.result(), expected.value)

    async def check_all(
        self, expected: dict[str, Any], strike: Callable[[Peer], object], *more: Any
    ) -> None:
        """Check what the strikes do to each call; the last outcome counts."""
        for name, outcome in expected.items():
            with self.subTest(name):
                peer, call = await self.start(name)
                task = await self.waiting(call())
                for each in (strike, *more):
                    each(peer)
                    await settle()
                self.check_outcome(task, outcome)
                if isinstance(outcome, Ended) and not more and name != "wait_open":
                    self.assertEqual(futures_in(peer.protocol), [])

    def all_waiters(self, default: Any, **others: Any) -> dict[str, Any]:
        """Return the outcome for every call on an open connection."""
        named = {name.replace(" ", "_"): name for name in ON_CONNECTION}
        self.assertLessEqual(set(others), set(named))
        return {name: others.get(key, default) for key, name in named.items()}

    async def test_stream_reset_by_peer(self) -> None:
        for code in (ErrorCodes.CANCEL, ErrorCodes.REFUSED_STREAM, ErrorCodes.NO_ERROR):
            with self.subTest(code):
                expected = self.all_waiters(
                    WAITS,
                    start_request_at_the_limit=Returns(3),
                    wait_functional=Returns(None),
                    shutdown=ONE_STREAM,
                )
                await self.check_all(expected, lambda peer: peer.reset(1, code))  # noqa: B023 - called in this round
        self.assertEqual(self.handled, ["cancelled"] * 3)

    async def test_stream_reset_here(self) -> None:
        expected = self.all_waiters(
            WAITS, start_request_at_the_limit=Returns(3), shutdown=ONE_STREAM
        )
        with self.assertLogs("aioh2.server", "INFO"):
            await self.check_all(expected, lambda peer: peer.protocol.reset_stream(1))
        self.assertEqual(self.handled, ["reset: local"])

    async def test_lost(self) -> None:
        for error in (None, ConnectionResetError(104, "Connection reset by peer")):
            with self.subTest(error):
                ended = Ended(ConnectionClosed, None, "transport")
                expected = self.all_waiters(
                    ended,
                    start_request_at_the_limit=ended._replace(retryable=True),
                    wait_closed=Returns(),
                    shutdown=Returns(aioh2.Drained(0, 1)),
                    async_for=Returns([]),
                    serve=Returns(),
                )
                expected |= dict.fromkeys(BEFORE_SETTINGS, HANDSHAKE)
                await self.check_all(expected, lambda peer: peer.lose(error))  # noqa: B023 - called in this round
        self.assertEqual(self.handled, ["cancelled"] * 2)

    async def test_goaway_below(self) -> None:
        """A client's only stream is turned away, so the connection ends; a server's lives on."""
        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer")
        expected = self.all_waiters(
            WAITS,
            start_request_at_the_limit=ended._replace(retryable=True),
            ping=ended,
            wait_functional=Returns(None),
            wait_closed=Returns(),
            shutdown=ONE_STREAM,
        )
        await self.check_all(expected, lambda peer: peer.goaway(0))

    async def test_goaway_at(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer", True)
        expected = self.all_waiters(
            WAITS, start_request_at_the_limit=ended, wait_functional=Returns(None)
        )
        await self.check_all(expected, lambda peer: peer.goaway(1))

    async def test_goaway_at_and_the_end_of_the_stream(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer")
        expected = self.all_waiters(
            ended,
            start_request_at_the_limit=ended._replace(retryable=True),
            wait_functional=Returns(None),
            wait_closed=Returns(),
            shutdown=ONE_STREAM,
            async_for=Returns([]),
            serve=Returns(),
        )
        await self.check_all(expected, lambda peer: peer.goaway(1), lambda peer: peer.reset(1))

    async def test_goaway_with_a_code_and_loss(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.INTERNAL_ERROR, "peer")
        expected = self.all_waiters(
            ended,
            start_request_at_the_limit=ended._replace(retryable=True),
            wait_functional=Returns(None),
            wait_closed=Returns(),
            shutdown=Returns(aioh2.Drained(0, 1)),
            async_for=Returns([]),
            serve=Returns(),
        )
        await self.check_all(
            expected,
            lambda peer: peer.goaway(1, ErrorCodes.INTERNAL_ERROR),
            lambda peer: peer.lose(),
        )

    async def test_connection_error(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.FRAME_SIZE_ERROR, "local")
        expected = self.all_waiters(
            ended,
            start_request_at_the_limit=ended._replace(retryable=True),
            wait_closed=Returns(),
            shutdown=Returns(aioh2.Drained(0, 1)),
            async_for=Returns([]),
            serve=Returns(),
        )
        # the bytes with the error in them are a sign of life all the same
        expected["wait_functional"] = Returns(None)
        await self.check_all(expected, lambda peer: peer.send_bytes(BAD_PING))

    async def test_not_http2(self) -> None:
        expected = dict.fromkeys(BEFORE_SETTINGS, HANDSHAKE)
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        await self.check_all(expected, lambda peer: peer.send_bytes(answer))

    async def test_closed_by_this_side(self) -> None:
        ended = Ended(ConnectionClosed, ErrorCodes.ENHANCE_YOUR_CALM, "local")
        expected = self.all_waiters(
            ended,
            start_request_at_the_limit=ended._replace(retryable=True),
            wait_closed=Returns(),
            shutdown=Returns(aioh2.Drained(0, 1)),
            async_for=Returns([]),
            serve=Returns(),
        )
        expected["start_request before SETTINGS"] = ended._replace(retryable=True)
        expected["wait_open"] = ended
        code = ErrorCodes.ENHANCE_YOUR_CALM
        await self.check_all(expected, lambda peer: peer.protocol.close_connection(code))

    async def test_shut_down_by_this_side(self) -> None:
        """No new streams; the rest waits until stream 1 is done."""
        ended = Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "local", True)
        expected = self.all_waiters(WAITS, start_request_at_the_limit=ended)
        expected["start_request before SETTINGS"] = ended
        del expected["shutdown"]
        tasks = []

        def shut_down(peer: Peer) -> None:
            tasks.append(asyncio.get_running_loop().create_task(peer.protocol.shutdown()))

        await self.check_all(expected, shut_down, lambda peer: None)
        for task in tasks:
            task.cancel()

    async def test_settings_let_requests_go(self) -> None:
        for name, result in zip(BEFORE_SETTINGS, (1, None), strict=True):
            with self.subTest(name):
                peer, call = await self.start(name)
                task = await self.waiting(call())
                await peer.greet()
                self.assertEqual(await self.now(task), result)

    async def test_cancelled(self) -> None:
        """Nothing is left of the call, and another one waits and goes on as if it were alone."""
        going_on: dict[str, Callable[[Peer], Any]] = {
            "start_request before SETTINGS": lambda peer: peer.greet(),
            "wait_open": lambda peer: peer.greet(),
            "start_request at the limit": lambda peer: peer.reset(1),
            "wait_functional": lambda peer: peer.window(0, 1),
            "wait_closed": lambda peer: peer.lose(),
            "shutdown": lambda peer: peer.respond(1, end=True),
            "recv_request": lambda peer: peer.request(3),
            "async for": lambda peer: peer.lose(),
            "serve": lambda peer: peer.lose(),
        }
        results: dict[str, Any] = {
            "start_request before SETTINGS": 1,
            "start_request at the limit": 3,
            "recv_request": (3, REQUEST),
            "async for": [],
            "shutdown": aioh2.Drained(1, 0),
        }
        for name, go_on in going_on.items():
            with self.subTest(name):
                peer, call = await self.start(name)
                held = []
                for _ in range(3):
                    task = await self.waiting(call())
                    task.cancel()
                    await settle()
                    self.assertTrue(task.cancelled())
                    held.append(len(futures_in(peer.protocol)))
                # wait_open keeps one for all its callers
                self.assertEqual(held, [int(name == "wait_open")] * 3)
                again = await self.waiting(call())
                went = go_on(peer)
                if went is not None:
                    await went
                self.assertEqual(await self.now(again), results.get(name))

    async def test_cancelled_ping(self) -> None:
        peer, call = await self.start("ping")
        task = await self.waiting(call())
        task.cancel()
        (forgotten,) = await peer.frames(PingFrame)
        self.assertEqual(futures_in(peer.protocol), [])
        again = await self.waiting(call())
        peer.ack_ping(forgotten)
        await settle()
        self.assertFalse(again.done())
        (ping,) = await peer.frames(PingFrame)
        peer.ack_ping(ping)
        self.assertGreaterEqual(await self.now(again), 0)

    async def cancelled_and_lost(self, name: str, *, settled: bool) -> None:
        peer, call = await self.start(name)
        task = asyncio.ensure_future(call())
        await settle()
        if not settled:
            peer.protocol.connection_lost(None)
        task.cancel()
        await settle()
        if settled:
            peer.lose()
            await settle()
        self.assertTrue(task.cancelled())

    async def test_cancelled_in_the_moment_it_ends(self) -> None:
        for name in (*BEFORE_SETTINGS, *ON_CONNECTION):
            with self.subTest(name):
                await self.cancelled_and_lost(name, settled=False)
                # an error that nobody has retrieved is reported when its future is collected
                gc.collect()
                self.assertEqual(self.loop_errors, [])

    async def test_cancelled_before_it_ends(self) -> None:
        for name in (*BEFORE_SETTINGS, *ON_CONNECTION):
            with self.subTest(name):
                await self.cancelled_and_lost(name, settled=True)
                gc.collect()
                self.assertEqual(self.loop_errors, [])

    async def test_lost_before_settings_with_an_exception(self) -> None:
        for name in BEFORE_SETTINGS:
            with self.subTest(name):
                peer, call = await self.start(name)
                task = await self.waiting(call())
                cause = ConnectionResetError(104, "Connection reset by peer")
                peer.lose(cause)
                with self.assertRaisesRegex(aioh2.HandshakeError, "reset by peer") as caught:
                    await self.now(task)
                self.assertIs(caught.exception.__cause__, cause)

    async def test_cancelled_with_the_slot_in_hand(self) -> None:
        """The slot goes to the next."""
        peer, call = await self.start("start_request at the limit")
        first, second = [await self.waiting(call()) for _ in range(2)]
        self.assertEqual(peer.protocol.waiting_requests, 2)
        peer.reset(1)
        first.cancel()
        self.assertEqual(await self.now(second), 3)
        self.assertTrue(first.cancelled())
        self.assertEqual(peer.protocol.waiting_requests, 0)

    async def test_cancelled_with_the_request_in_hand(self) -> None:
        """The request goes to the next."""
        peer, call = await self.start("recv_request")
        first, second = [await self.waiting(call()) for _ in range(2)]
        peer.request(3)
        first.cancel()
        self.assertEqual(await self.now(second), (3, REQUEST))
        self.assertTrue(first.cancelled())

    async def test_a_slot_that_is_not_used_goes_to_the_next(self) -> None:
        peer, call = await self.start("start_request before SETTINGS")
        websocket = {":method": "CONNECT", ":protocol": "websocket"}
        first = await self.waiting(peer.protocol.start_request(websocket))
        second = await self.waiting(call())
        await peer.greet({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
        with self.assertRaises(aioh2.NotSupported):
            await first
        self.assertEqual(await self.now(second), 1)

    async def test_requests_that_came_before_the_end(self) -> None:
        """They are still handed out; then the end is told."""
        for name, results in (("recv_request", [(3, REQUEST), (5, REQUEST)]), ("async for", [3])):
            with self.subTest(name):
                peer, call = await self.start(name)
                peer.request(3)
                if name == "recv_request":
                    peer.request(5)
                peer.protocol.connection_lost(None)
                if name == "async for":
                    self.assertEqual(await self.now(call()), results)
                    continue
                self.assertEqual([await call() for _ in results], results)
                with self.assertRaises(ConnectionClosed):
                    await call()

    async def test_calls_after_the_end(self) -> None:
        ended = Ended(ConnectionClosed, None, "transport")
        expected = self.all_waiters(
            ended,
            start_request_at_the_limit=ended._replace(retryable=True),
            wait_closed=Returns(),
            shutdown=Returns(aioh2.Drained(0, 0)),
            async_for=Returns([]),
            serve=Returns(),
        )
        expected["wait_open"] = HANDSHAKE
        for name, outcome in expected.items():
            with self.subTest(name):
                peer, call = await self.start(name)
                if name == "serve":
                    await anext(peer.protocol)
                peer.protocol.connection_lost(None)
                task = asyncio.get_running_loop().create_task(call())
                await settle()
                self.check_outcome(task, outcome)

    async def test_push_waits_for_a_slot(self) -> None:
        """It waits on its parent stream too."""
        for strike, ended in (
            (lambda peer: peer.reset(1), Ended(StreamReset, ErrorCodes.CANCEL, "peer")),
            (lambda peer: peer.lose(), Ended(ConnectionClosed, None, "transport", True)),
            (
                lambda peer: peer.goaway(0),
                Ended(ConnectionClosed, ErrorCodes.NO_ERROR, "peer", True),
            ),
        ):
            with self.subTest(ended):
                peer = await Peer.of_server(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0})
                peer.request(1, end=False)
                parent = await anext(peer.protocol)
                task = await self.waiting(parent.push(REQUEST))
                strike(peer)
                await settle()
                self.assertTrue(task.done(), "it still waits")
                error = task.exception()
                assert isinstance(error, ConnectionClosed | StreamReset)
                said = Ended(type(error), error.error_code, error.initiator, error.retryable)
                self.assertEqual(said, ended)
                self.assertEqual(futures_in(peer.protocol), [])

    async def test_push_waits_for_a_slot_until_its_parent_has_ended(self) -> None:
        for reset in (True, False):
            with self.subTest(reset=reset):
                peer = await Peer.of_server(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0})
                peer.request(1, POST, end=not reset)
                parent = await anext(peer.protocol)
                await parent.start_response(RESPONSE)
                task = await self.waiting(parent.push(REQUEST))
                if reset:
                    parent.reset()
                else:
                    await parent.end()
                await settle()
                self.assertTrue(task.done(), "it still waits")
                self.assertIsInstance(task.exception(), StreamReset | StreamClosed)
                self.assertEqual(peer.protocol.waiting_requests, 0)

    async def test_push_that_waits_for_a_slot_cancelled(self) -> None:
        peer = await Peer.of_server(settings={SettingCodes.MAX_CONCURRENT_STREAMS: 0})
        peer.request(1, end=False)
        parent = await anext(peer.protocol)
        task = await self.waiting(parent.push(REQUEST))
        task.cancel()
        await settle()
        self.assertEqual(peer.protocol.waiting_requests, 0)
        self.assertEqual(futures_in(peer.protocol), [])


class TestRetrySafety(Ends):
    async def test_headers_that_were_written_are_not_retried(self) -> None:
        """Opened and closed in one tick: what goes out decides."""
        for name, strike in (("close", closed_here), ("error", connection_error), ("lost", lost())):
            with self.subTest(name):
                peer = await Peer.of_client()
                stream = await peer.protocol.open_stream(REQUEST)
                strike(Scene(peer, stream, stream))
                with self.assertRaises(ConnectionClosed) as caught:
                    await stream.recv_response()
                written = bool(await peer.frames(HeadersFrame))
                self.assertIs(caught.exception.retryable, not written)

    async def test_headers_that_were_never_written(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream(REQUEST)
        peer.protocol.connection_lost(ConnectionResetError())
        with self.assertRaises(ConnectionClosed) as caught:
            await stream.recv_response()
        self.assertTrue(caught.exception.retryable)
        self.assertEqual(await peer.frames(HeadersFrame), [])

    async def test_headers_that_were_written(self) -> None:
        peer = await Peer.of_client()
        stream = await peer.protocol.open_stream(REQUEST)
        self.assertEqual(len(await peer.frames(HeadersFrame)), 1)
        peer.lose()
        with self.assertRaises(ConnectionClosed) as caught:
            await stream.recv_response()
        self.assertFalse(caught.exception.retryable)


# --- bytes before the end ----------------------------------------------------------------------

STRIKES: list[tuple[str, Strike, Ended]] = [
    (
        "reset by the peer",
        reset_by_peer(ErrorCodes.CANCEL),
        Ended(StreamReset, ErrorCodes.CANCEL, "peer"),
    ),
    ("malformed", malformed, Ended(StreamReset, ErrorCodes.PROTOCOL_ERROR, "local")),
    ("reset here", reset_here, Ended(StreamReset, ErrorCodes.INTERNAL_ERROR, "local")),
    ("lost", lost(), Ended(ConnectionClosed, None, "transport")),
    (
        "connection error",
        connection_error,
        Ended(ConnectionClosed, ErrorCodes.FRAME_SIZE_ERROR, "local"),
    ),
    ("closed here", closed_here, Ended(ConnectionClosed, ErrorCodes.ENHANCE_YOUR_CALM, "local")),
]


class TestBytesBeforeTheEnd(Ends):
    async def struck(self, strike: Strike, *ahead: bytes) -> aioh2.H2Stream:
        scene = await responded_scene()
        for data in ahead:
            scene.peer.data(3, data)
        strike(scene)
        await settle()
        return scene.stream

    async def check_raises(self, call: Coroutine[Any, Any, Any], ended: Ended) -> None:
        with self.assertRaises(aioh2.AIOH2Exception) as caught:
            await self.now(call)
        self.check_error(caught.exception, ended)

    async def test_read_n_gives_the_fewer_that_there_are(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                stream = await self.struck(strike, b"abc", b"def")
                self.assertEqual(await self.now(stream.read(2)), b"ab")
                self.assertEqual(await self.now(stream.read(10)), b"cdef")
                for _ in range(2):
                    await self.check_raises(stream.read(1), ended)
                self.assertEqual(await self.now(stream.read(0)), b"")

    async def test_read_gives_the_chunks(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                stream = await self.struck(strike, b"abc", b"def")
                self.assertEqual([await stream.read(), await stream.read()], [b"abc", b"def"])
                for _ in range(2):
                    await self.check_raises(stream.read(), ended)

    async def test_read_all_raises_and_keeps_them(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                stream = await self.struck(strike, b"abc", b"def")
                for _ in range(2):
                    await self.check_raises(stream.read(-1), ended)
                self.assertEqual(await self.now(stream.read(4)), b"abcd")
                self.assertEqual(await self.now(stream.read()), b"ef")
                await self.check_raises(stream.read(), ended)
                await self.check_raises(stream.read(-1), ended)

    async def test_read_exactly_raises_and_keeps_them(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                stream = await self.struck(strike, b"abc", b"def")
                for _ in range(2):
                    await self.check_raises(stream.read_exactly(7), ended)
                self.assertEqual(await self.now(stream.read_exactly(6)), b"abcdef")
                await self.check_raises(stream.read_exactly(1), ended)

    async def test_iteration_gives_the_chunks(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                stream = await self.struck(strike, b"abc", b"def")
                got = []
                with self.assertRaises(aioh2.AIOH2Exception) as caught:
                    async for chunk in stream:
                        got.append(chunk)
                self.assertEqual(got, [b"abc", b"def"])
                self.check_error(caught.exception, ended)

    async def test_trailers_raise(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                stream = await self.struck(strike, b"abc")
                await self.check_raises(stream.recv_trailers(), ended)

    async def test_headers_that_came_stay(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                scene = await client_scene(enable_push=True)
                scene.peer.respond(3, [(":status", "103")])
                scene.peer.send(scene.peer.promise(3, 2))
                scene.peer.respond(3)
                strike(scene)
                await settle()
                stream = scene.stream
                self.assertEqual(await self.now(stream.recv_informational()), [(":status", "103")])
                self.assertIsNone(await self.now(stream.recv_informational()))
                self.assertEqual(await self.now(stream.recv_response()), RESPONSE)
                push = await stream.recv_push()
                assert push is not None
                self.assertEqual(push.request_headers, REQUEST)
                await self.check_raises(stream.recv_push(), ended)

    async def test_read_n_that_waits_gets_the_fewer(self) -> None:
        for name, strike, ended in STRIKES:
            with self.subTest(name):
                scene = await responded_scene()
                task = await self.waiting(scene.stream.read(10))
                scene.peer.data(3, b"abc")
                await settle()
                self.assertFalse(task.done())
                strike(scene)
                self.assertEqual(await self.now(task), b"abc")
                await self.check_raises(scene.stream.read(10), ended)

    async def test_in_one_segment(self) -> None:
        """Bytes and reset arrive together."""
        scene = await responded_scene()
        task = await self.waiting(scene.stream.read(10))
        scene.peer.send(DataFrame(3, b"abc"), RstStreamFrame(3, ErrorCodes.CANCEL))
        self.assertEqual(await self.now(task), b"abc")
        ended = Ended(StreamReset, ErrorCodes.CANCEL, "peer")
        await self.check_raises(scene.stream.read(10), ended)

    async def test_clean_end(self) -> None:
        """Past it, everything can be asked for again and again."""
        for ahead in ([], [b"abc"]):
            with self.subTest(ahead=ahead):
                scene = await responded_scene()
                for data in ahead:
                    scene.peer.data(3, data)
                scene.peer.data(3, end=True)
                self.assertEqual(await self.now(scene.stream.read(-1)), b"".join(ahead))
                for _ in range(2):
                    for size in (None, -1, 0, 1):
                        self.assertEqual(await self.now(scene.stream.read(size)), b"")
                    self.assertEqual(await self.now(chunks(scene.stream)), [])
                    self.assertEqual(await self.now(scene.stream.read_exactly(0)), b"")
                    self.assertEqual(await self.now(scene.stream.recv_trailers()), [])
                    self.assertIsNone(await self.now(scene.stream.recv_push()))
                with self.assertRaises(asyncio.IncompleteReadError):
                    await scene.stream.read_exactly(1)

    async def test_clean_end_and_then_another_one(self) -> None:
        """What the peer has completed stays complete."""
        for name, strike, _ in STRIKES:
            with self.subTest(name):
                scene = await responded_scene()
                scene.peer.data(3, b"abc")
                scene.peer.send(scene.peer.headers(3, TRAILERS, "END_STREAM"))
                strike(scene)
                await settle()
                self.assertEqual(await self.now(scene.stream.recv_response()), RESPONSE)
                self.assertEqual(await self.now(scene.stream.read(-1)), b"abc")
                self.assertEqual(await self.now(scene.stream.read()), b"")
                self.assertEqual(await self.now(scene.stream.recv_trailers()), TRAILERS)

    async def test_empty_data_frames_are_not_the_end(self) -> None:
        scene = await responded_scene()
        task = await self.waiting(scene.stream.read())
        scene.peer.data(3, b"")
        await settle()
        self.assertFalse(task.done())
        scene.peer.data(3, b"abc")
        self.assertEqual(await self.now(task), b"abc")


# --- leaving, and what it leaves ---------------------------------------------------------------


class TestLeaving(Ends):
    """``async with stream``."""

    async def resets(self, peer: Peer) -> list[tuple[int, int]]:
        return [(f.stream_id, f.error_code) for f in await peer.frames(RstStreamFrame)]

    async def test_early(self) -> None:
        for scene in (await client_scene(), await server_scene()):
            async with scene.stream as entered:
                self.assertIs(entered, scene.stream)
            self.assertEqual(await self.resets(scene.peer), [(3, ErrorCodes.CANCEL)])
            with self.assertRaises(StreamReset) as caught:
                await scene.stream.read()
            self.assertEqual(caught.exception.initiator, "local")

    async def test_with_an_exception(self) -> None:
        scene = await client_scene()
        with self.assertRaises(KeyError):
            async with scene.stream:
                raise KeyError
        self.assertEqual(await self.resets(scene.peer), [(3, ErrorCodes.CANCEL)])

    async def test_cancelled(self) -> None:
        async def inside(stream: aioh2.H2Stream) -> None:
            async with stream:
                await stream.read()

        for scene in (await responded_scene(), await server_scene()):
            task = await self.waiting(inside(scene.stream))
            task.cancel()
            self.assertEqual(await self.resets(scene.peer), [(3, ErrorCodes.CANCEL)])
            self.assertTrue(task.cancelled())
            self.assertEqual(futures_in(scene.protocol), [])

    async def test_cancelled_while_sending(self) -> None:
        async def inside(stream: aioh2.H2Stream) -> None:
            async with stream:
                await stream.send_data(BODY, end_stream=True)

        for scene in (await client_scene(WINDOW), await server_scene(WINDOW)):
            task = await self.waiting(inside(scene.stream))
            task.cancel()
            self.assertEqual(await self.resets(scene.peer), [(3, ErrorCodes.CANCEL)])
            scene.peer.window(3, 1000)
            self.assertEqual(await scene.peer.frames(DataFrame), [])

    async def test_open_stream_as_a_context(self) -> None:
        peer = await Peer.of_client()
        async with peer.protocol.open_stream(POST) as stream:
            await peer.frames()
        self.assertEqual(await self.resets(peer), [(stream.id, ErrorCodes.CANCEL)])

    async def test_complete(self) -> None:
        scene = await client_scene()
        async with scene.stream:
            await scene.stream.end()
            scene.peer.respond(3, end=True)
        self.assertEqual(await self.resets(scene.peer), [])

    async def test_after_a_reset_by_the_peer(self) -> None:
        scene = await client_scene()
        async with scene.stream:
            scene.peer.reset(3)
        self.assertEqual(await self.resets(scene.peer), [])

    async def test_complete_push(self) -> None:
        """A promised stream has nothing to send, so its response's end is its own."""
        scene = await client_scene(enable_push=True)
        scene.peer.send(scene.peer.promise(3, 2))
        push = await scene.stream.recv_push()
        assert push is not None
        async with push:
            scene.peer.respond(2)
            scene.peer.data(2, b"abc", end=True)
            self.assertEqual(await self.now(push.read(-1)), b"abc")
        self.assertEqual(await self.resets(scene.peer), [])

    async def test_client_whose_upload_is_not_complete(self) -> None:
        scene = await client_scene()
        async with scene.stream:
            scene.peer.respond(3, end=True)
        self.assertEqual(await self.resets(scene.peer), [(3, ErrorCodes.CANCEL)])
        self.assertEqual(await self.now(scene.stream.recv_response()), RESPONSE)


class TestUploadNobodyWants(Ends):
    """RFC 9113 section 8.1: a complete response, and a request that is not."""

    async def test_server_leaves(self) -> None:
        scene = await server_scene()
        async with scene.stream:
            scene.peer.data(3, b"abc")
            await scene.stream.end()
        (end, reset) = await scene.peer.frames(DataFrame, RstStreamFrame)
        self.assertIn("END_STREAM", end.flags)
        self.assertEqual((reset.stream_id, reset.error_code), (3, ErrorCodes.NO_ERROR))
        with self.assertRaises(StreamReset) as caught:
            await scene.stream.read()
        self.assertEqual(caught.exception.error_code, ErrorCodes.NO_ERROR)

    async def test_what_comes_afterwards_is_dropped_and_credited(self) -> None:
        scene = await server_scene(connection_window_size=65_535)
        async with scene.stream:
            await scene.stream.end()
        await scene.peer.frames()
        for _ in range(3):
            scene.peer.data(3, bytes(16_384))
        credit = await scene.peer.frames()
        self.assertEqual([frame.stream_id for frame in credit], [0])
        with self.assertRaises(StreamReset):
            await scene.stream.read()

    async def test_server_whose_request_is_complete(self) -> None:
        scene = await server_scene()
        async with scene.stream:
            scene.peer.data(3, b"abc", end=True)
            await scene.stream.end()
        self.assertEqual(await scene.peer.frames(RstStreamFrame), [])
        self.assertEqual(await self.now(scene.stream.read()), b"abc")

    async def test_end_alone_does_not(self) -> None:
        scene = await server_scene()
        await scene.stream.end()
        self.assertEqual(await scene.peer.frames(RstStreamFrame), [])
        scene.peer.data(3, b"abc", end=True)
        self.assertEqual(await self.now(scene.stream.read(-1)), b"abc")

    async def test_handler_returns(self) -> None:
        async def handle(stream: aioh2.H2Stream) -> None:
            await stream.start_response(RESPONSE, end_stream=True)

        peer = await Peer.of_server()
        serving = await self.waiting(peer.protocol.serve(handle))
        peer.request(1, POST, end=False)
        peer.data(1, b"abc")
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual((reset.stream_id, reset.error_code), (1, ErrorCodes.NO_ERROR))
        serving.cancel()

    async def test_client_keeps_the_response(self) -> None:
        for one_segment in (False, True):
            with self.subTest(one_segment=one_segment):
                scene = await client_scene(WINDOW)
                task = await self.waiting(scene.stream.send_data(BODY, end_stream=True))
                frames = [
                    scene.peer.headers(3, RESPONSE),
                    DataFrame(3, b"abc"),
                    scene.peer.headers(3, TRAILERS, "END_STREAM"),
                    RstStreamFrame(3, ErrorCodes.NO_ERROR),
                ]
                if one_segment:
                    scene.peer.send(*frames)
                else:
                    for frame in frames:
                        scene.peer.send(frame)
                await settle()
                ended = Ended(StreamReset, ErrorCodes.NO_ERROR, "peer")
                self.check_error(task.exception(), ended, BODY[10:])
                with self.assertRaises(aioh2.SendException) as caught:
                    await scene.stream.send_data(b"more")
                self.check_error(caught.exception, ended, b"more")
                self.assertEqual(await self.now(scene.stream.recv_response()), RESPONSE)
                self.assertEqual(await self.now(scene.protocol.read_stream(3, -1)), b"abc")
                self.assertEqual(await self.now(scene.stream.read()), b"")
                self.assertEqual(await self.now(scene.stream.recv_trailers()), TRAILERS)

    async def test_client_with_no_complete_response(self) -> None:
        scene = await responded_scene()
        scene.peer.data(3, b"abc")
        scene.peer.reset(3, ErrorCodes.NO_ERROR)
        self.assertEqual(await self.now(scene.stream.read()), b"abc")
        with self.assertRaises(StreamReset):
            await scene.stream.read()

    async def test_pair(self) -> None:
        client, server = await connected_pair()
        stream = await client.open_stream(POST)
        async with await anext(server) as request:
            await request.start_response(RESPONSE)
            await request.send_data(b"no, thanks", end_stream=True)
        await settle()
        self.assertEqual(await self.now(stream.read(-1)), b"no, thanks")
        with self.assertRaises(aioh2.SendException):
            await stream.send_data(b"abc")
        client.close_connection()
        await server.wait_closed()


# --- order within a segment --------------------------------------------------------------------


class TestOneSegment(Ends):
    """Frames that arrive together count as if each had come alone."""

    async def test_end_of_a_stream_behind_the_ack_of_a_shutdown(self) -> None:
        peer = await Peer.of_server()
        peer.request(1, POST, end=False)
        stream = await anext(peer.protocol)
        await stream.start_response(RESPONSE, end_stream=True)
        reader = await self.waiting(stream.read(-1))
        shutdown = await self.waiting(peer.protocol.shutdown())
        (ping,) = await peer.frames(PingFrame)
        peer.send(
            PingFrame(0, ping.opaque_data, flags=["ACK"]),
            DataFrame(1, b"abc", flags=["END_STREAM"]),
        )
        await settle()
        self.assertTrue(reader.done(), "it still waits")
        self.assertEqual(reader.result(), b"abc")
        self.assertEqual(await self.now(shutdown), aioh2.Drained(1, 0))

    async def test_end_of_a_stream_behind_goaway(self) -> None:
        scene = await client_scene()
        for stream in scene.other, scene.stream:
            await stream.end()
        reader = await self.waiting(scene.other.read(-1))
        scene.peer.send(
            GoAwayFrame(0, 1, ErrorCodes.NO_ERROR),
            scene.peer.headers(1, RESPONSE),
            DataFrame(1, b"abc", flags=["END_STREAM"]),
        )
        self.assertEqual(await self.now(reader), b"abc")

    async def test_end_of_a_stream_behind_a_call_in_event_received(self) -> None:
        class Protocol(aioh2.H2Protocol):
            def event_received(self, event: Any) -> None:
                super().event_received(event)
                if getattr(event, "headers", None) == [
                    (name.encode(), value.encode()) for name, value in REQUEST
                ]:
                    self.reset_stream(event.stream_id)

        protocol = Protocol(False)
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        peer.send_bytes(PREFACE)
        await peer.greet()
        peer.request(1, POST, end=False)
        stream = await anext(protocol)
        await stream.start_response(RESPONSE, end_stream=True)
        reader = await self.waiting(stream.read(-1))
        peer.send(peer.headers(3, REQUEST), DataFrame(1, b"abc", flags=["END_STREAM"]))
        (reset,) = await peer.frames(RstStreamFrame)
        self.assertEqual(reset.stream_id, 3)
        self.assertTrue(reader.done(), "it still waits")
        self.assertEqual(reader.result(), b"abc")

    async def test_reset_of_a_stream_that_the_next_frame_ends(self) -> None:
        """An override resets a stream while the frame that ends it is in the same segment."""

        class Protocol(aioh2.H2Protocol):
            def event_received(self, event: Any) -> None:
                super().event_received(event)
                if type(event).__name__ == "RequestReceived":
                    self.reset_stream(event.stream_id)

        protocol = Protocol(False)
        peer = Peer(protocol)
        protocol.connection_made(peer.transport)
        peer.send_bytes(PREFACE)
        await peer.greet()
        peer.send(peer.headers(1, REQUEST), RstStreamFrame(1, ErrorCodes.CANCEL))
        await settle()
        self.assertFalse(protocol.is_closing, protocol.close_reason)

    async def test_calls_on_a_stream_that_the_next_frame_ends(self) -> None:
        """An override makes calls at once, as eager tasks do; h2 knows already of the end."""
        said: dict[str, Exception] = {}

        def at_once(name: str, call: Callable[[], Any]) -> None:
            try:
                coroutine = call()
                if coroutine is not None:
                    coroutine.send(None)
            except (aioh2.AIOH2Exception, StopIteration) as error:
                said[name] = error

        class Protocol(aioh2.H2Protocol):
            def event_received(self, event: Any) -> None:
                super().event_received(event)
                if type(event).__name__ == "PingReceived":
                    one, three = self.stream(1), self.stream(3)
                    at_once("data", lambda: one.send_data(b"abc"))
                    at_once("push", lambda: one.push(REQUEST))
                    at_once("trailers", lambda: one.send_trailers(TRAILERS))
                    advertise = self.advertise_alternative_service
                    at_once("services", lambda: advertise("h2", stream_id=3))
                    at_once("response", lambda: three.start_response(RESPONSE))
                    at_once("another", lambda: self.stream(5).start_response(RESPONSE))

        peer = await Peer.of_server(kind=Protocol, settings={SettingCodes.ENABLE_PUSH: 1})
        for stream_id in (1, 3, 5):
            peer.request(stream_id, POST, end=False)
        await self.now(peer.protocol.start_response(1, RESPONSE))
        await peer.frames()
        resets = [RstStreamFrame(stream_id, ErrorCodes.ENHANCE_YOUR_CALM) for stream_id in (3, 1)]
        peer.send(PingFrame(opaque_data=bytes(8)), *resets)
        frames = await peer.frames()
        self.assertEqual([frame.stream_id for frame in frames], [0, 5])
        self.assertIsInstance(said.pop("another"), StopIteration)
        unsent = said["data"]
        assert isinstance(unsent, SendException)
        self.assertEqual(unsent.data, b"abc")
        assert isinstance(unsent.__cause__, Exception)
        said["data"] = unsent.__cause__
        self.assertEqual(list(said), ["data", "push", "trailers", "services", "response"])
        for error in said.values():
            assert isinstance(error, StreamReset), error
            self.assertEqual((error.error_code, error.initiator), (11, "peer"))
        self.assertFalse(peer.protocol.is_closing, peer.protocol.close_reason)

    async def test_request_and_loss(self) -> None:
        """A good request in the same segment as a bad frame still counts."""
        peer = await Peer.of_server()
        peer.send_bytes(peer.headers(1, REQUEST, "END_STREAM").serialize() + BAD_PING)
        self.assertEqual(await self.now(peer.protocol.recv_request()), (1, REQUEST))
        with self.assertRaises(ConnectionClosed) as caught:
            await peer.protocol.recv_request()
        self.assertEqual(caught.exception.error_code, ErrorCodes.FRAME_SIZE_ERROR)


# --- many streams ------------------------------------------------------------------------------


class TestNothingStays(Ends):
    """Streams that have ended leave nothing, however they ended."""

    STREAMS = 3000
    BATCH = 60
    KEPT = 20

    def alive(self) -> int:
        gc.collect()
        return sum(isinstance(each, aioh2.H2Stream) for each in gc.get_objects())

    def check_nothing_stays(self, protocol: aioh2.H2Protocol, before: int) -> None:
        driver = protocol._driver
        self.assertEqual(len(driver.table.ended), self.KEPT)
        self.assertEqual(len(driver.connection.streams), 0)
        self.assertEqual(len(driver.table.inbound), 0)
        self.assertEqual(len(driver.priorities._tree), 0)
        self.assertEqual(driver.connection.held_streams, 0)
        sender = driver.sender
        self.assertEqual([len(sender._queues), len(sender._framed)], [0, 0])
        self.assertEqual(futures_in(protocol), [])
        self.assertEqual(protocol.stats.streams_open, 0)
        self.assertLessEqual(self.alive() - before, self.KEPT)

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        # it takes a traceback for each task and future
        asyncio.get_running_loop().set_debug(False)

    async def test_client(self) -> None:
        before = self.alive()
        limit = {SettingCodes.MAX_CONCURRENT_STREAMS: self.BATCH}
        peer = await Peer.of_client(settings=limit | WINDOW, concurrency=self.KEPT)
        protocol = peer.protocol
        for _ in range(self.STREAMS // self.BATCH):
            ids = [await protocol.start_request(POST) for _ in range(self.BATCH)]
            tasks = [asyncio.create_task(protocol.send_data(each, BODY)) for each in ids]
            tasks += [asyncio.create_task(protocol.recv_trailers(each)) for each in ids]
            extra = asyncio.create_task(protocol.start_request(REQUEST))
            await settle(4)
            extra.cancel()
            for index, stream_id in enumerate(ids):
                self.end_client_stream(peer, stream_id, index % 6)
            await settle(4)
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, extra, return_exceptions=True)
            for stream_id in ids:
                if stream_id in protocol._driver.table.open:
                    protocol.reset_stream(stream_id)
        await settle()
        del tasks, extra, each  # their tracebacks hold streams
        self.check_nothing_stays(protocol, before)
        self.assertEqual(protocol.stats.streams_opened, self.STREAMS)

    def end_client_stream(self, peer: Peer, stream_id: int, way: int) -> None:
        if way == 0:
            peer.reset(stream_id)
        elif way == 1:
            peer.protocol.reset_stream(stream_id)
        elif way == 2:
            peer.respond(stream_id)
            peer.data(stream_id, b"unread", end=True)
            peer.reset(stream_id, ErrorCodes.NO_ERROR)
        elif way == 3:
            peer.window(stream_id, 1000)
            peer.respond(stream_id)
            peer.data(stream_id, b"unread", end=True)
        elif way == 4:
            peer.request(stream_id, TRAILERS, end=False)

    async def test_server(self) -> None:
        async def handle(stream: aioh2.H2Stream) -> None:
            way = stream.id // 2 % 5
            if way == 0:
                raise ValueError
            if way == 1:
                await stream.start_response(RESPONSE, end_stream=True)
            if way == 2:
                await stream.start_response(RESPONSE)
                await stream.send_data(BODY, end_stream=True)
            if way == 3:
                await stream.read(-1)

        before = self.alive()
        peer = await Peer.of_server(settings=WINDOW, concurrency=self.KEPT, reset_budget=None)
        protocol = peer.protocol
        serving = await self.waiting(protocol.serve(handle))
        with self.assertLogs("aioh2.server", "ERROR"):
            for start in range(1, 2 * self.STREAMS, 2 * self.KEPT):
                ids = range(start, start + 2 * self.KEPT, 2)
                for stream_id in ids:
                    peer.request(stream_id, POST, end=stream_id % 3 == 0)
                await settle(6)
                for stream_id in ids:
                    if stream_id % 4 == 1:
                        peer.window(stream_id, 1000)
                    else:
                        peer.reset(stream_id)
                await settle(6)
                for stream_id in ids:
                    peer.reset(stream_id)
                await settle(4)
        serving.cancel()
        await settle()
        self.check_nothing_stays(protocol, before)
        self.assertEqual(protocol.stats.streams_opened, self.STREAMS)

    async def test_refused_and_malformed(self) -> None:
        """Streams that never become any."""
        before = self.alive()
        peer = await Peer.of_server(concurrency=1, reset_budget=None)
        peer.request(1, POST, end=False)
        await peer.protocol.recv_request()
        for stream_id in range(3, 1000, 2):
            peer.request(stream_id, REQUEST if stream_id % 4 == 1 else TRAILERS)
            await settle(1)
        resets = await peer.frames(RstStreamFrame)
        self.assertEqual([frame.stream_id for frame in resets], list(range(3, 1000, 2)))
        self.assertEqual(peer.protocol.stats.streams_open, 1)
        self.assertEqual(len(peer.protocol._driver.connection.streams), 1)
        self.assertLessEqual(self.alive() - before, 1)

    async def test_connections(self) -> None:
        """With the transport gone nothing holds the protocol: no timer, no task, no callback."""
        limits = ("body_timeout", "idle_timeout", "keepalive_interval", "max_connection_age")
        options = dict.fromkeys((*limits, "window_timeout"), 60)
        for scene in (client_scene, server_scene):
            for strike in (lost(), closed_here, connection_error):
                for cancelled in (False, True):
                    with self.subTest(scene.__name__, strike=strike, cancelled=cancelled):
                        protocol = await self.ended_connection(
                            await scene(WINDOW, **options), strike, cancelled
                        )
                        gc.collect()
                        self.assertIsNone(protocol())

    async def ended_connection(
        self, scene: Scene, strike: Strike, cancelled: bool
    ) -> weakref.ref[aioh2.H2Protocol]:
        calls = (
            scene.stream.send_data(BODY),
            scene.stream.read(),
            scene.protocol.ping(),
            scene.protocol.wait_closed(),
        )
        tasks = [asyncio.ensure_future(call) for call in calls]
        await settle()
        strike(scene)
        for task in tasks:
            if cancelled:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await settle()
        return weakref.ref(scene.protocol)
