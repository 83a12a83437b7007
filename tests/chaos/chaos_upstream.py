"""An upstream as a process of its own, to be killed: ``chaos_upstream.py PORT LEDGER``.

Every request is noted in the ledger, a line ``METHOD id`` each, before it is answered with that id. SIGTERM makes it
end gracefully: the requests under way are finished, with ``Connection: close``. It does what its last
``PUT /mode?KEY=VALUE&...`` said:

    status=503   answer requests so
    health=500   answer /health so
    reset=20     every twentieth request ends with a reset instead of an answer
    delay=0.05   answer after so many seconds
    after=1      answer with this Retry-After
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import sys
from urllib.parse import parse_qsl


class Upstream:
    def __init__(self, ledger: str) -> None:
        self.mode = {"status": 200.0, "health": 200.0, "reset": 0.0, "delay": 0.0, "after": 0.0}
        self.ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.count = 0
        self.ending = asyncio.Event()
        self.idle: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.idle.add(writer)
        try:
            while not self.ending.is_set():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.idle.discard(writer)
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
                body = await reader.readexactly(int(fields.get("Content-Length", "0")))
                method, target, _ = head.split(" ", 2)
                if not await self.answer(writer, method, target, body):
                    return
                self.idle.add(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.idle.discard(writer)
            writer.close()

    async def answer(self, writer: asyncio.StreamWriter, method: str, target: str, body: bytes) -> bool:
        path, _, query = target.partition("?")
        content = body or query.encode()
        status = self.mode["status"]
        if path == "/mode":
            self.mode.update((key, float(value)) for key, value in parse_qsl(query))
            status = 200
        elif path == "/health":
            status = self.mode["health"]
        else:
            os.write(self.ledger, b"%s %s\n" % (method.encode(), content))
            self.count += 1
            if self.mode["delay"]:
                await asyncio.sleep(self.mode["delay"])
            if self.mode["reset"] and self.count % int(self.mode["reset"]) == 0:
                self.reset(writer)
                return False
        ending = self.ending.is_set()
        more = b"Connection: close\r\n" if ending else b""
        if self.mode["after"]:
            more += b"Retry-After: %d\r\n" % int(self.mode["after"])
        writer.write(b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (int(status), more, len(content), content))
        await writer.drain()
        return not ending

    def reset(self, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def run(self, port: int) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.ending.set)
        server = await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=1024, reuse_address=True)
        print("ready", flush=True)
        await self.ending.wait()
        server.close()
        for writer in list(self.idle):
            writer.close()
        for _ in range(200):
            if len(asyncio.all_tasks()) == 1:
                return
            await asyncio.sleep(0.01)


async def main() -> None:
    await Upstream(sys.argv[2]).run(int(sys.argv[1]))


if __name__ == "__main__":
    asyncio.run(main())
