"""``H2Protocol``: a first round trip."""

from __future__ import annotations

from hyperframe.frame import GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

import aioh2

from .wire import REQUEST, Case, Peer, connected_pair, settle


class TestRoundTrip(Case):
    async def test_pair(self) -> None:
        client, server = await connected_pair()
        stream_id = await client.start_request({":path": "/a", "x": "1"})
        await client.send_data(stream_id, b"abc", end_stream=True)
        got, headers = await server.recv_request()
        self.assertEqual(got, stream_id)
        self.assertIn(("x", "1"), headers)
        self.assertEqual(await server.read_stream(got, -1), b"abc")
        await server.start_response(got, {":status": "200"})
        await server.send_data(got, b"def")
        await server.send_trailers(got, {"t": "u"})
        self.assertEqual(await client.recv_response(stream_id), [(":status", "200")])
        self.assertEqual(await client.read_stream(stream_id, -1), b"def")
        self.assertEqual(await client.recv_trailers(stream_id), [("t", "u")])
        drained = await client.shutdown()
        self.assertEqual(drained, (0, 0))
        await server.wait_closed()

    async def test_scripted(self) -> None:
        peer = await Peer.of_server(concurrency=1)
        peer.request(1, end=False)
        peer.request(3)
        frames = await peer.frames(RstStreamFrame)
        self.assertEqual([(f.stream_id, f.error_code) for f in frames], [(3, 7)])
