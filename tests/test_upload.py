"""``examples/upload.py``: what is asked before a body is sent, and what becomes of it."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import pathlib
import runpy
import sys
import tempfile
from typing import Any

import aioh2

from .interop.cases import within
from .interop.programs import LARGE, Example, run
from .wire import Case

ROOT = pathlib.Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "upload.py"
BODY = LARGE[:200_000]
ANSWER = f"{len(BODY)} {hashlib.sha256(BODY).hexdigest()}\n".encode()
PUT = {":method": "PUT"}


class TestUpload(Case):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.names = runpy.run_path(str(EXAMPLE))
        self.file = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "file"
        self.file.write_bytes(BODY)

    async def connect(self, handler: Any) -> aioh2.H2Protocol:
        server = await aioh2.start_server(lambda p: p.serve(handler), "127.0.0.1", 0)
        await self.enterAsyncContext(server)
        port = server.sockets[0].getsockname()[1]
        return await self.enterAsyncContext(aioh2.open_connection("127.0.0.1", port))

    async def served(self, limit: int) -> aioh2.H2Protocol:
        return await self.connect(functools.partial(self.names["handle"], limit=limit))

    async def upload(self, client: aioh2.H2Protocol, **options: Any) -> Any:
        with self.file.open("rb") as file:
            return await self.names["upload"](client, file, **options)

    async def nothing_has_come(self, stream: aioh2.H2Stream) -> None:
        # what the client had sent would have come before its answer
        await stream.protocol.ping()
        self.assertEqual(stream.unread, 0)

    # --- the client ----------------------------------------------------------------------

    @within(30)
    async def test_body_waits_for_100(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            fields = dict(stream.request_headers)
            self.assertEqual(fields["expect"], "100-continue")
            self.assertEqual(fields["content-length"], str(len(BODY)))
            await self.nothing_has_come(stream)
            await stream.start_response({":status": "103"})
            await self.nothing_has_come(stream)
            await stream.start_response({":status": "100"})
            received.set_result(await stream.read(-1))
            await stream.start_response({":status": "200"}, end_stream=True)

        received = asyncio.get_running_loop().create_future()
        client = await self.connect(handler)
        self.assertEqual(await self.upload(client, patience=20), ("200", b""))
        self.assertEqual(received.result(), BODY)

    @within(30)
    async def test_body_does_not_wait_for_ever(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            received.set_result(await stream.read(-1))
            await stream.start_response({":status": "200"}, end_stream=True)

        received = asyncio.get_running_loop().create_future()
        client = await self.connect(handler)
        self.assertEqual(await self.upload(client, patience=0.01), ("200", b""))
        self.assertEqual(received.result(), BODY)

    @within(30)
    async def test_body_that_is_not_wanted_is_not_sent(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "403"})
            await stream.send_data(b"no", end_stream=True)
            try:
                await stream.recv_trailers()
            finally:
                # the client has reset it; what it had sent would have come before
                unread.set_result(stream.unread)

        unread = asyncio.get_running_loop().create_future()
        client = await self.connect(handler)
        self.assertEqual(await self.upload(client, patience=20), ("403", b"no"))
        self.assertEqual(await unread, 0)

    @within(30)
    async def test_upload_that_is_stopped(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "100"})
            await stream.read_exactly(1000)
            await stream.start_response({":status": "507"})
            await stream.send_data(b"full", end_stream=True)

        client = await self.connect(handler)
        self.file.write_bytes(LARGE)
        self.assertEqual(await self.upload(client), ("507", b"full"))

    @within(30)
    async def test_upload_that_fails(self) -> None:
        async def handler(stream: aioh2.H2Stream) -> None:
            await stream.start_response({":status": "100"})
            await stream.read_exactly(1000)
            stream.reset(aioh2.ErrorCodes.ENHANCE_YOUR_CALM)

        client = await self.connect(handler)
        with self.assertRaises(aioh2.StreamReset) as caught:
            await self.upload(client)
        self.assertEqual(caught.exception.error_code, aioh2.ErrorCodes.ENHANCE_YOUR_CALM)

    # --- the server ----------------------------------------------------------------------

    @within(30)
    async def test_upload(self) -> None:
        client = await self.served(limit=len(BODY))
        self.assertEqual(await self.upload(client, patience=20), ("200", ANSWER))

    @within(30)
    async def test_without_expectation_no_100_is_sent(self) -> None:
        client = await self.served(limit=len(BODY))
        async with client.open_stream(PUT) as stream:
            await stream.send_data(BODY, end_stream=True)
            self.assertEqual(await stream.read(-1), ANSWER)
            self.assertIsNone(await stream.recv_informational())

    async def check_refused(self, status: str, headers: dict[str, str]) -> None:
        client = await self.served(limit=1000)
        async with client.open_stream({**PUT, "expect": "100-continue", **headers}) as stream:
            self.assertEqual(await stream.recv_response(), [(":status", status)])
            self.assertIsNone(await stream.recv_informational())
            # who sends it even so is stopped, and can still read the response
            with self.assertRaises(aioh2.SendException) as caught:
                await stream.send_data(LARGE)
            reason = caught.exception.__cause__
            assert isinstance(reason, aioh2.StreamReset)
            self.assertEqual(reason.error_code, aioh2.ErrorCodes.NO_ERROR)
            self.assertEqual(await stream.read(-1), b"")

    @within(30)
    async def test_too_large(self) -> None:
        await self.check_refused("413", {"content-length": "1001"})

    @within(30)
    async def test_expectation_that_is_unknown(self) -> None:
        await self.check_refused("417", {"expect": "payment"})

    @within(30)
    async def test_other_methods(self) -> None:
        await self.check_refused("405", {":method": "PATCH"})

    @within(30)
    async def test_more_than_it_takes_without_a_length(self) -> None:
        client = await self.served(limit=1000)
        async with client.open_stream({**PUT, "expect": "100-continue"}) as stream:
            self.assertEqual(await stream.recv_informational(), [(":status", "100")])
            with self.assertRaises(aioh2.SendException):
                await stream.send_data(LARGE, end_stream=True)
            self.assertEqual(await stream.recv_response(), [(":status", "413")])

    # --- as programs ---------------------------------------------------------------------

    @within(30)
    async def test_as_programs(self) -> None:
        async with Example("upload.py", "--limit", str(len(BODY))) as server:
            client = (sys.executable, "-W", "error", str(EXAMPLE), "--port", str(server.port))
            output = await run(*client, "--send", str(self.file))
            self.assertEqual((output.code, output.text), (0, f"200 {ANSWER.decode()}"))
            self.file.write_bytes(BODY + b"x")
            output = await run(*client, "--send", str(self.file))
            self.assertEqual((output.code, output.text), (1, "413 \n"))
