"""What the servers are asked for, as h2load's arguments."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Final

__all__ = ["SCENARIOS", "Scenario"]

_MIB: Final = 1024 * 1024

# What a browser sends beside the four pseudo-headers: twelve fields.
_BROWSER: Final = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/130.0.0.0 Safari/537.36",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "accept-encoding: gzip, deflate, br, zstd",
    "accept-language: en-GB,en-US;q=0.9,en;q=0.8",
    "cookie: session=0f8b1d6a3c5e47f29a6b7c8d9e0f1a2b; theme=dark; consent=1",
    "referer: https://www.example.org/articles/index.html",
    'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "sec-fetch-dest: document",
    "sec-fetch-mode: navigate",
    "sec-fetch-site: same-origin",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of load: ``streams`` requests at a time on each of ``connections``."""

    name: str
    title: str
    connections: int
    streams: int
    #: Requests before the measured ones.
    warm_up: int
    path: str = "/"
    #: Twelve header fields, and a path that no other request of the connection has.
    browser: bool = False
    #: Bytes of the request's body, and of the response's where that is what is measured.
    upload: int = 0
    download: int = 0
    tls: bool = False

    @property
    def size(self) -> int:
        """Bytes of content for which a request is made; 0 for small ones."""
        return self.upload or self.download

    def arguments(self, port: int, requests: int, folder: pathlib.Path) -> list[str]:
        """h2load's arguments; ``folder`` is for the files that it reads."""
        base = f"{'https' if self.tls else 'http'}://127.0.0.1:{port}"
        arguments = ["-n", str(requests), "-c", str(self.connections), "-m", str(self.streams)]
        if self.upload:
            body = folder / f"upload-{self.upload}"
            if not body.exists():
                body.write_bytes(bytes(self.upload))
            arguments += ["-d", str(body)]
        if not self.browser:
            return [*arguments, base + self.path]
        for header in _BROWSER:
            arguments += ["-H", header]
        # h2load goes through the list on every connection
        paths = folder / f"paths-{port}"
        count = -(-requests // self.connections)
        lines = (f"{base}/?article={i:07}&view={i * 2654435761 % 2**32:08x}" for i in range(count))
        paths.write_text("".join(f"{line}\n" for line in lines))
        return [*arguments, "-i", str(paths)]


def _get(connections: int, streams: int) -> Scenario:
    return Scenario(
        name=f"get-c{connections}-m{streams}",
        title=f"small GET, {connections} connection(s) x {streams} stream(s)",
        connections=connections,
        streams=streams,
        warm_up=2000 if connections * streams > 1 else 500,
    )


def _browser(connections: int, streams: int) -> Scenario:
    return dataclasses.replace(
        _get(connections, streams),
        name=f"browser-c{connections}-m{streams}",
        title="12 browser-like headers, a new path each time, "
        f"{connections} connection(s) x {streams} stream(s)",
        browser=True,
    )


_SIZES: Final = ((1, 1), (10, 10), (1, 100), (100, 10))

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        *(_get(*size) for size in _SIZES),
        *(_browser(*size) for size in _SIZES),
        Scenario(
            name="download",
            title="16 MiB download, one at a time",
            connections=1,
            streams=1,
            warm_up=2,
            path=f"/download?size={16 * _MIB}",
            download=16 * _MIB,
        ),
        Scenario(
            name="upload",
            title="1 MiB upload, 1 connection x 10 streams",
            connections=1,
            streams=10,
            warm_up=20,
            upload=_MIB,
        ),
        dataclasses.replace(
            _get(10, 10),
            name="tls-c10-m10",
            title="small GET over TLS, 10 connections x 10 streams",
            tls=True,
        ),
    )
}
