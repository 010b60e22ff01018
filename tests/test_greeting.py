"""``Greeting``: ALPN, the SETTINGS that go out first, and the wait for the peer's."""

from __future__ import annotations

import unittest
from unittest import mock

from hyperframe.frame import (
    GoAwayFrame,
    PingFrame,
    SettingsFrame,
)

import aioh2
from aioh2 import SettingCodes

from .test_closing import LIMIT, Timed
from .test_protocol import ungreeted
from .wire import (
    PREFACE,
    REQUEST,
    MemoryTransport,
    Peer,
    settle,
)

PUSH = int(SettingCodes.ENABLE_PUSH)
CONNECT = int(SettingCodes.ENABLE_CONNECT_PROTOCOL)


class Agreed:
    """What a transport over TLS says of ALPN."""

    def __init__(self, protocol: str | None) -> None:
        self.protocol = protocol

    def selected_alpn_protocol(self) -> str | None:
        return self.protocol


class TestGreeting(Timed):
    async def test_client(self) -> None:
        peer = await ungreeted(
            True,
            concurrency=7,
            initial_window_size=70_000,
            connection_window_size=100_000,
            max_frame_size=20_000,
            max_header_list_size=9_000,
            header_table_size=100,
        )
        self.assertTrue(peer.transport.written.startswith(PREFACE))
        settings, window = await peer.frames()
        self.assertEqual(settings.settings, {1: 100, 2: 0, 3: 7, 4: 70_000, 5: 20_000, 6: 9_000})
        self.assertEqual((window.stream_id, window.window_increment), (0, 100_000 - 65_535))
        self.assertEqual(peer.transport.writes, 1)

    async def test_client_with_push(self) -> None:
        peer = await ungreeted(True, enable_push=True)
        settings, _ = await peer.frames()
        self.assertEqual(settings.settings[PUSH], 1)

    async def test_server(self) -> None:
        peer = await ungreeted(False, connection_window_size=65_535)
        (settings,) = await peer.frames()
        self.assertNotIn(PUSH, settings.settings)
        self.assertNotIn(CONNECT, settings.settings)
        self.assertEqual(settings.settings[LIMIT], 100)

    async def test_server_with_extended_connect(self) -> None:
        peer = await ungreeted(False, enable_connect_protocol=True, enable_push=True)
        settings, _ = await peer.frames()
        self.assertEqual(settings.settings[CONNECT], 1)
        self.assertNotIn(PUSH, settings.settings)

    async def test_wait_open(self) -> None:
        peer = await ungreeted(True)
        calls = [await self.waiting(peer.protocol.wait_open()) for _ in range(3)]
        calls[0].cancel()
        await settle()
        peer.send(SettingsFrame())
        await settle()
        self.assertTrue(calls[0].cancelled())
        self.assertEqual([call.result() for call in calls[1:]], [None, None])
        await self.soon(peer.protocol.wait_open())

    async def test_wait_open_that_fails(self) -> None:
        peer = await ungreeted(True)
        call = await self.waiting(peer.protocol.wait_open())
        peer.lose(ConnectionResetError("gone"))
        await settle()
        for error in (call.exception(), await self.failing(peer)):
            self.assertIsInstance(error, aioh2.HandshakeError)
            self.assertIsInstance(error, ConnectionError)
            self.assertIn("before its SETTINGS: gone", str(error))
        self.assertIsInstance(peer.protocol.close_reason, aioh2.HandshakeError)

    async def failing(self, peer: Peer) -> aioh2.HandshakeError:
        with self.assertRaises(aioh2.HandshakeError) as caught:
            await self.soon(peer.protocol.wait_open())
        return caught.exception

    async def test_first_frame_is_not_settings(self) -> None:
        peer = await ungreeted(True)
        request = await self.waiting(peer.protocol.start_request(REQUEST))
        peer.send(PingFrame(0, b"12345678"))
        await settle()
        self.assertIn("SETTINGS", str(await self.failing(peer)))
        error = request.exception()
        self.assertIsInstance(error, aioh2.HandshakeError)
        assert isinstance(error, aioh2.HandshakeError)
        self.assertTrue(error.retryable)

    async def test_http1_server(self) -> None:
        peer = await ungreeted(True)
        peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        self.assertRegex(str(await self.failing(peer)), "server speaks HTTP/1")
        with self.assertRaisesRegex(aioh2.HandshakeError, "HTTP/1"):
            await self.soon(peer.protocol.start_request(REQUEST))

    async def test_alpn_of_the_server(self) -> None:
        for chosen, says in ((None, "server.*chose no protocol"), ("http/1.1", "'http/1.1', not")):
            with self.subTest(chosen):
                protocol = aioh2.H2Protocol(True)
                transport = MemoryTransport(protocol, ssl_object=Agreed(chosen))
                protocol.connection_made(transport)
                with self.assertRaisesRegex(aioh2.HandshakeError, says):
                    await self.soon(protocol.wait_open())
                self.assertTrue(transport.closed)
                self.assertEqual(transport.written, b"")

    async def test_alpn_that_is_right(self) -> None:
        for agreed in (Agreed("h2"), mock.Mock()):
            protocol = aioh2.H2Protocol(True)
            protocol.connection_made(MemoryTransport(protocol, ssl_object=agreed))
            self.assertFalse(protocol.is_closing)
            protocol.abort()

    async def test_open_timeout_whose_timer_comes_second(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        call = await self.waiting(peer.protocol.wait_open())
        peer.protocol._driver.close_for(aioh2.ErrorCodes.SETTINGS_TIMEOUT, "no acknowledgement")
        await settle()
        self.assertIsInstance(call.exception(), aioh2.HandshakeError)
        self.assertIn("the peer sent nothing for 3 s", str(call.exception()))

    async def test_open_timeout(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        call = await self.waiting(peer.protocol.wait_open())
        await self.after(2.9)
        self.assertFalse(call.done())
        await self.after(0.2)
        self.assertIn("the peer sent nothing for 3 s", str(call.exception()))
        self.assertEqual([f.error_code for f in await peer.frames(GoAwayFrame)], [4])
        self.assertIsInstance(call.exception(), aioh2.HandshakeError)
        self.assertTrue(peer.transport.closed)

    async def test_open_timeout_after_the_preface(self) -> None:
        peer = await ungreeted(False, open_timeout=3)
        peer.send_bytes(PREFACE)
        await self.after(3.1)
        self.assertIn("no SETTINGS for 3 s", str(peer.protocol.close_reason))
        self.assertTrue(peer.transport.closed)

    async def test_open_timeout_does_not_wait_for_a_goodbye(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        peer.transport.hang_on_close = True
        await self.after(3.1)
        self.assertTrue(peer.transport.aborted)

    async def test_settings_in_time(self) -> None:
        peer = await ungreeted(True, open_timeout=3)
        await peer.greet()
        await self.after(60)
        self.assertFalse(peer.transport.closed)

    async def test_no_open_timeout(self) -> None:
        peer = await ungreeted(True, open_timeout=None)
        await self.after(3600)
        self.assertFalse(peer.transport.closed)
        await peer.greet()
        self.assertFalse(peer.transport.closed)

    async def test_no_request_before_settings(self) -> None:
        peer = await ungreeted(True)
        await peer.frames()
        request = await self.waiting(peer.protocol.start_request(REQUEST))
        self.assertEqual(await peer.frames(), [])
        self.assertEqual(peer.protocol.waiting_requests, 1)
        self.assertEqual(peer.protocol.available_slots, 0)
        await peer.greet()
        self.assertEqual(request.result(), 1)

    async def test_without_a_connection(self) -> None:
        protocol = aioh2.H2Protocol(True)
        for call in (protocol.start_request(REQUEST), protocol.ping(), protocol.wait_functional()):
            error = await self.assert_closed(call)
            self.assertIn("no connection yet", str(error))
        with self.assertRaises(aioh2.ConnectionClosed):
            protocol.update_settings({})
        self.assertEqual((protocol.available_slots, protocol.rtt), (0, None))


if __name__ == "__main__":
    unittest.main()
