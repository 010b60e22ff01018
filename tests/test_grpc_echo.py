"""``examples/grpc_echo.py``: what it puts on the wire, and what it makes of peers that err.

How it goes with real gRPC is in ``interop/test_grpc.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from typing import Any
from unittest import mock

from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

import aioh2
from aioh2 import ErrorCodes
from examples import grpc_echo
from examples.grpc_echo import Channel, RpcError, ServerCall, Status

from .wire import POST, Case, Peer, settle

GRPC = ("content-type", "application/grpc")
OK = [(":status", "200"), GRPC]


def framed(message: bytes) -> bytes:
    """What a message is in DATA."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class TestFields(Case):
    def test_timeouts(self) -> None:
        written = {0.05: "50000000n", 0.5: "500000u", 5: "5000000u", 1e-12: "1n", 3600: "3600000m"}
        for seconds, value in {**written, -1: "1n", 1e6: "1000000S", 1e10: "2777778H"}.items():
            with self.subTest(seconds=seconds):
                self.assertEqual(grpc_echo.format_timeout(seconds), value)
        for value, seconds in {"5S": 5, "100m": 0.1, "2H": 7200, "99999999n": 0.1, "0u": 0}.items():
            self.assertAlmostEqual(grpc_echo.parse_timeout(value) or 0, seconds, places=5)
        self.assertIsNone(grpc_echo.parse_timeout(None))
        for value in ("", "5", "S", "-5S", "5s", "123456789m", "\u0665S", "5S\n"):
            with self.subTest(value=value), self.assertRaises(RpcError):
                grpc_echo.parse_timeout(value)

    def test_message(self) -> None:
        self.assertEqual(grpc_echo.quote_message("100% \u00fc~\n"), "100%25 %C3%BC~%0A")

    def test_metadata(self) -> None:
        metadata = [("a", "b"), ("c-bin", b"\xff"), ("c-bin", b"")]
        fields = list(grpc_echo.encode_metadata(metadata))
        self.assertEqual(fields, [("a", "b"), ("c-bin", "/w"), ("c-bin", "")])
        self.assertEqual(grpc_echo.decode_metadata(fields), metadata)
        joined = [(":path", "/"), ("grpc-encoding", "x"), GRPC, ("c-bin", "/w==,AAE")]
        self.assertEqual(
            grpc_echo.decode_metadata(joined), [("c-bin", b"\xff"), ("c-bin", b"\0\1")]
        )
        with self.assertRaises(RpcError):
            grpc_echo.decode_metadata([("c-bin", "a")])


class TestServer(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.output = io.StringIO()
        self.enterContext(contextlib.redirect_stdout(self.output))
        self.peer = await Peer.of_server(handler=lambda p: p.serve(grpc_echo.handle))

    def call(self, method: str, *fields: tuple[str, str], body: bytes | None = b"") -> None:
        """Send a request; None: its body comes later."""
        headers = [*POST[:-1], (":path", f"/echo.Echo/{method}"), GRPC, *fields]
        self.peer.request(1, headers, end=False)
        if body is not None:
            self.peer.data(1, body, end=True)

    async def check_status(self, status: Status, *, message: str | None = None) -> None:
        """Check that the response is a status alone (Trailers-Only)."""
        [headers] = await self.peer.frames(HeadersFrame)
        self.assertIn("END_STREAM", headers.flags)
        fields = dict(headers.headers)
        self.assertEqual((fields[":status"], fields["grpc-status"]), ("200", str(status.value)))
        if message is not None:
            self.assertEqual(fields["grpc-message"], message)

    async def test_echo(self) -> None:
        self.call("Echo", ("x-a", "b"), body=framed(b"hello"))
        headers, data, trailers = await self.peer.frames()
        self.assertEqual(headers.headers, [*OK, ("x-a", "b")])
        self.assertEqual(data.data, framed(b"hello"))
        self.assertEqual(trailers.headers, [("grpc-status", "0")])
        self.assertIn("END_STREAM", trailers.flags)
        self.assertEqual(self.output.getvalue(), "/echo.Echo/Echo: OK\n")

    async def test_unknown_method(self) -> None:
        self.call("None")
        await self.check_status(Status.UNIMPLEMENTED, message="there is no method /echo.Echo/None")

    async def test_a_path_that_is_no_text(self) -> None:
        headers: list[Any] = [*POST[:-1], (b":path", b"/\xff"), GRPC]
        self.peer.request(1, headers)
        await self.check_status(Status.UNIMPLEMENTED)

    async def test_bad_requests(self) -> None:
        long = b"\0\xff\xff\xff\xff"
        for body, status in {
            b"": Status.UNIMPLEMENTED,
            framed(b"a") + framed(b"b"): Status.UNIMPLEMENTED,
            b"\1" + framed(b"a")[1:]: Status.UNIMPLEMENTED,
            long: Status.RESOURCE_EXHAUSTED,
            b"\0\0": Status.INTERNAL,
            framed(b"abc")[:-1]: Status.INTERNAL,
            # cut short by as many bytes as a prefix has
            framed(b"abcde")[:-5]: Status.INTERNAL,
        }.items():
            with self.subTest(body=body):
                self.peer = await Peer.of_server(handler=lambda p: p.serve(grpc_echo.handle))
                self.call("Echo", body=body)
                await self.check_status(status)

    async def test_bad_fields(self) -> None:
        for field in (("grpc-timeout", "soon"), ("a-bin", "a")):
            self.peer = await Peer.of_server(handler=lambda p: p.serve(grpc_echo.handle))
            self.call("Echo", field, body=framed(b""))
            await self.check_status(Status.INTERNAL)

    async def test_no_grpc(self) -> None:
        self.peer.request(1)
        [headers] = await self.peer.frames(HeadersFrame)
        self.assertEqual(headers.headers, [(":status", "415")])

    async def test_an_upload_that_is_too_long_is_stopped(self) -> None:
        self.call("Echo", body=None)
        self.peer.data(1, b"\0\xff\xff\xff\xff" + bytes(1000))
        headers, reset = await self.peer.frames(HeadersFrame, RstStreamFrame)
        self.assertEqual(dict(headers.headers)["grpc-status"], "8")
        self.assertEqual(reset.error_code, ErrorCodes.NO_ERROR)

    async def test_deadline_while_the_client_opens_no_window(self) -> None:
        """The handler is cancelled where it waits, and the status goes out all the same."""
        self.call("Echo", ("grpc-timeout", "50m"), body=framed(bytes(100_000)))
        frames: list[Any] = []
        while not (frames and frames[-1].type == HeadersFrame.type and len(frames) > 1):
            await asyncio.sleep(0.01)
            frames += await self.peer.frames(HeadersFrame, DataFrame)
        self.assertEqual(dict(frames[-1].headers)["grpc-status"], "4")
        self.assertEqual(sum(len(f.data) for f in frames[1:-1]), 65_535)
        self.assertIn("DEADLINE_EXCEEDED", self.output.getvalue())

    async def test_cancelled_by_the_client(self) -> None:
        self.call("Chat", body=None)
        self.peer.data(1, framed(b"a"))
        await settle()
        self.peer.reset(1)
        await settle()
        self.assertEqual(self.output.getvalue(), "/echo.Echo/Chat: CANCELLED\n")

    async def test_a_bug(self) -> None:
        async def buggy(call: ServerCall) -> None:
            raise TimeoutError("not of the call's deadline")

        with (
            mock.patch.dict(grpc_echo.METHODS, {"/echo.Echo/Bug": buggy}),
            self.assertLogs("aioh2.server", "ERROR"),
        ):
            self.call("Bug", ("grpc-timeout", "1H"))
            [reset] = await self.peer.frames(RstStreamFrame)
        self.assertEqual(reset.error_code, ErrorCodes.INTERNAL_ERROR)
        self.assertEqual(self.output.getvalue(), "/echo.Echo/Bug: failed\n")


class TestClient(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.peers = [await Peer.of_client(), await Peer.of_client()]
        self.peer = self.peers[0]
        connections = iter([peer.protocol for peer in self.peers])

        async def connect(*address: object, **options: object) -> aioh2.H2Protocol:
            await settle(1)
            return next(connections)

        self.enterContext(mock.patch.object(aioh2, "open_connection", connect))
        self.channel = Channel("a.test", 1)

    async def outcome(self, call: asyncio.Task[bytes]) -> RpcError:
        await settle()
        with self.assertRaises(RpcError) as caught:
            call.result()
        return caught.exception

    async def test_request(self) -> None:
        call = await self.waiting(
            self.channel.unary("Echo", b"hello", limit=5, metadata=[("a-bin", b"\xff")])
        )
        headers, data, end = await self.peer.frames()
        fields = dict(headers.headers)
        self.assertEqual((fields[":method"], fields[":path"]), ("POST", "/echo.Echo/Echo"))
        self.assertEqual((fields["te"], fields["content-type"]), ("trailers", "application/grpc"))
        self.assertRegex(fields["grpc-timeout"], "^4[0-9]{6}u$|^5000000u$")
        self.assertEqual(fields["a-bin"], "/w")
        self.assertEqual(data.data, framed(b"hello"))
        self.assertIn("END_STREAM", end.flags)
        self.peer.respond(1, OK)
        self.peer.data(1, framed(b"world"))
        self.peer.respond(1, [("grpc-status", "0")], end=True)
        await settle()
        self.assertEqual(call.result(), b"world")

    async def test_calls_that_begin_together_share_a_connection(self) -> None:
        calls = [asyncio.create_task(self.channel.unary("Echo", b"")) for _ in range(3)]
        await settle(50)
        self.assertEqual(len(await self.peer.frames(HeadersFrame)), 3)
        self.peer.goaway(0)
        self.peers[1].goaway(0)
        await asyncio.gather(*calls, return_exceptions=True)

    async def test_resets(self) -> None:
        meant = {
            ErrorCodes.CANCEL: Status.CANCELLED,
            ErrorCodes.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
            ErrorCodes.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
            ErrorCodes.NO_ERROR: Status.INTERNAL,
            ErrorCodes.PROTOCOL_ERROR: Status.INTERNAL,
            0xFFFF: Status.INTERNAL,
        }
        for stream_id, (code, status) in enumerate(meant.items()):
            call = await self.waiting(self.channel.unary("Echo", b""))
            self.peer.reset(2 * stream_id + 1, code)
            error = await self.outcome(call)
            self.assertEqual((error.status, error.retryable), (status, False))
        # none was sent again
        self.assertEqual(len(await self.peer.frames(HeadersFrame)), len(meant))

    async def test_refused_once(self) -> None:
        call = await self.waiting(self.channel.unary("Echo", b"a"))
        self.peer.reset(1, ErrorCodes.REFUSED_STREAM)
        await settle()
        self.assertFalse(call.done())
        self.peer.respond(3, OK)
        self.peer.data(3, framed(b"b"))
        self.peer.respond(3, [("grpc-status", "0")], end=True)
        await settle()
        self.assertEqual(call.result(), b"b")

    async def test_refused_twice(self) -> None:
        call = await self.waiting(self.channel.unary("Echo", b"a"))
        self.peer.reset(1, ErrorCodes.REFUSED_STREAM)
        await settle()
        self.peer.reset(3, ErrorCodes.REFUSED_STREAM)
        error = await self.outcome(call)
        self.assertEqual((error.status, error.retryable), (Status.UNAVAILABLE, True))

    async def test_goaway(self) -> None:
        """What the server has not looked at goes to a new connection; what it has, does not."""
        seen = await self.waiting(self.channel.unary("Echo", b"a"))
        unseen = await self.waiting(self.channel.unary("Echo", b"b"))
        self.peer.goaway(1)
        await settle()
        self.assertEqual(len(await self.peers[1].frames(HeadersFrame)), 1)
        self.assertFalse(unseen.done())
        self.peer.lose()
        error = await self.outcome(seen)
        self.assertEqual((error.status, error.retryable), (Status.UNAVAILABLE, False))
        self.assertEqual(await self.peers[1].frames(HeadersFrame), [])

    async def test_responses_of_others(self) -> None:
        html = ("content-type", "text/html")
        cases = [
            ([(":status", "503"), html], Status.UNAVAILABLE),
            ([(":status", "404"), html], Status.UNIMPLEMENTED),
            ([(":status", "200"), html], Status.UNKNOWN),
            ([(":status", "418")], Status.UNKNOWN),
            ([*OK, ("grpc-status", "5")], Status.NOT_FOUND),
            ([*OK, ("grpc-status", "99")], Status.UNKNOWN),
            (OK, Status.UNKNOWN),
            # a unary call that ends with OK has a message
            ([*OK, ("grpc-status", "0")], Status.UNIMPLEMENTED),
        ]
        for number, (headers, status) in enumerate(cases):
            with self.subTest(headers=headers):
                call = await self.waiting(self.channel.unary("Echo", b""))
                self.peer.respond(2 * number + 1, headers, end=True)
                self.assertEqual((await self.outcome(call)).status, status)

    async def test_status_within_a_message(self) -> None:
        call = await self.waiting(self.channel.unary("Echo", b""))
        self.peer.respond(1, OK)
        self.peer.data(1, framed(b"abc")[:-1])
        self.peer.respond(1, [("grpc-status", "4"), ("grpc-message", "%C3%BC")], end=True)
        error = await self.outcome(call)
        self.assertEqual((error.status, error.message), (Status.DEADLINE_EXCEEDED, "\u00fc"))

    async def test_status_before_all_is_sent(self) -> None:
        """The server stops the upload; why is in its status, not in the reset."""
        call = await self.waiting(self.channel.unary("Echo", bytes(100_000)))
        self.peer.respond(1, [*OK, ("grpc-status", "8")], end=True)
        self.peer.reset(1, ErrorCodes.NO_ERROR)
        self.assertEqual((await self.outcome(call)).status, Status.RESOURCE_EXHAUSTED)

    async def test_deadline(self) -> None:
        with self.assertRaises(RpcError) as caught:
            await self.channel.unary("Echo", b"", limit=0.01)
        self.assertEqual(caught.exception.status, Status.DEADLINE_EXCEEDED)
        [reset] = await self.peer.frames(RstStreamFrame)
        self.assertEqual(reset.error_code, ErrorCodes.CANCEL)

    async def test_left_early(self) -> None:
        async with self.channel.call("Chat"):
            pass
        [reset] = await self.peer.frames(RstStreamFrame)
        self.assertEqual(reset.error_code, ErrorCodes.CANCEL)

    async def test_another_timeout_is_no_deadline(self) -> None:
        with self.assertRaises(TimeoutError):
            async with self.channel.call("Chat", limit=60):
                raise TimeoutError

    async def test_back_pressure(self) -> None:
        """``send`` waits for the server's window, and goes on with it."""
        async with self.channel.call("Chat") as call:
            sending = await self.waiting(call.send(bytes(100_000)))
            self.assertEqual(call.stream.blocked_on, "connection window")
            self.peer.window(0, 1 << 20)
            self.peer.window(1, 1 << 20)
            await sending

    async def test_no_connection(self) -> None:
        refused = mock.AsyncMock(side_effect=ConnectionRefusedError("no"))
        with (
            mock.patch.object(aioh2, "open_connection", refused),
            self.assertRaises(RpcError) as caught,
        ):
            await self.channel.unary("Echo", b"")
        self.assertEqual(caught.exception.status, Status.UNAVAILABLE)
        self.assertEqual(refused.await_count, 2)
