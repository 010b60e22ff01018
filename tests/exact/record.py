"""Record what curl, nghttp and h2load send to a small server of plain h2.

    python tests/exact/record.py

writes ``sessions/*.json``, which are kept, so that the comparison needs no other program.
"""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys
import threading
from typing import Any, Final

import h2.events as events
from h2.config import H2Configuration
from h2.connection import H2Connection

SESSIONS: Final = pathlib.Path(__file__).resolve().parent / "sessions"
#: Most bytes received in one session: the files are kept.
LARGEST: Final = 60_000
#: By name, what is run; ``{url}`` is the server's, ``{file}`` a file of 3,000 bytes.
PROGRAMS: Final = {
    "curl_get": "curl -s --http2-prior-knowledge {url}",
    "curl_post": "curl -s --http2-prior-knowledge --data-binary @{file} -H Cookie:a=b;c=d {url}",
    "nghttp_get": "nghttp -n {url}a {url}b {url}c",
    "nghttp_post": "nghttp -n -d {file} {url} --trailer=x:y --expect-continue",
    "nghttp_padding": "nghttp -n -b 40 -m 3 -w 14 -W 15 --hexdump {url}",
    "h2load": "h2load -n 40 -c 1 -m 10 -w 14 {url}",
    "h2load_post": "h2load -n 4 -c 1 -m 4 -d {file} --header-table-size=200 {url}",
}


class _Recorder:
    """The server: it answers each request with a body, a push where it may, and trailers."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self.steps: list[Any] = []

    def call(self, name: str, *arguments: Any, **options: Any) -> None:
        self.steps.append([name, arguments, options])
        getattr(self._h2, name)(*arguments, **options)

    def run(self) -> None:
        self.call("initiate_connection")
        size = 0
        while True:
            out = self._h2.data_to_send()
            if out:
                self._socket.sendall(out)
            data = self._socket.recv(65_536)
            size += len(data)
            if not data or size > LARGEST:
                return
            self.steps.append(data.hex())
            for event in self._h2.receive_data(data):
                self.answer(event)

    def answer(self, event: events.Event) -> None:
        if isinstance(event, events.DataReceived) and event.flow_controlled_length:
            length = event.flow_controlled_length
            self.call("acknowledge_received_data", length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            stream_id = event.stream_id
            if self._h2.remote_settings.enable_push and not self._h2.highest_outbound_stream_id:
                fields = [(":method", "GET"), (":scheme", "http"), (":path", "/pushed")]
                host, port = self._socket.getsockname()
                fields.append((":authority", f"{host}:{port}"))
                self.call("push_stream", stream_id, 2, fields)
                self.call("send_headers", 2, [(":status", "200")], end_stream=True)
            fields = [(":status", "200"), ("server", "recorder"), ("x-id", str(stream_id))]
            self.call("send_headers", stream_id, fields)
            self.steps.append(["send_data", (stream_id, "x" * 700), {}])
            self._h2.send_data(stream_id, b"x" * 700)
            self.call("send_headers", stream_id, [("checksum", "1")], end_stream=True)


def record(name: str, command: str, file: pathlib.Path) -> None:
    """Run a program against the server, and write down what the server saw and did."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        words = [word.format(url=url, file=file) for word in command.split()]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as program:
            connection, _ = server.accept()
            with connection:
                recorder = _Recorder(connection)
                thread = threading.Thread(target=recorder.run, daemon=True)
                thread.start()
                program.wait(20)
                thread.join(5)
    text = json.dumps(recorder.steps, separators=(",", ":"))
    (SESSIONS / f"{name}.json").write_text(text + "\n", encoding="ascii")
    print(f"{name}: {len(recorder.steps)} steps")


def main() -> int:
    SESSIONS.mkdir(exist_ok=True)
    file = SESSIONS / "body"
    file.write_bytes(bytes(range(250)) * 12)
    try:
        for name, command in PROGRAMS.items():
            record(name, command, file)
    finally:
        file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
