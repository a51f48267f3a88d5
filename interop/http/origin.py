"""An HTTP server that notes exactly what it was sent: `origin.py NAME PORT LOG`.

HTTP/1 is read and written by hand, byte for byte, so that nothing is tidied up on the way; HTTP/2 by the h2
library, on the same port. Each request becomes a line of JSON in LOG once it has ended, well or not.
"""

import asyncio
import hashlib
import json
import sys

import h2.config
import h2.connection
import h2.events
import h2.exceptions

import pages

MAX_HEAD = 128 << 10
PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
PIECE = 64 << 10


class Origin:
    """What all connections share: the log, and the knots tests wait at."""

    def __init__(self, log):
        self.log = log
        self.connections = 0
        self.events = {}
        self.progress = {}

    def event(self, name):
        return self.events.setdefault(name, asyncio.Event())

    def note(self, seen):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(json.dumps(seen) + "\n")


class Exchange:
    """One request and its reply, alike for both versions."""

    def __init__(self, origin, connection, version, method, target, headers):
        self.origin = origin
        self.method, self.target, self.headers = method, target, headers
        self.digest, self.size, self.trailers = hashlib.sha1(), 0, []
        self.seen = {"connection": connection, "version": version, "method": method, "target": target,
                     "headers": headers}

    def header(self, name):
        return next((value for one, value in self.headers if one.lower() == name), None)

    async def body(self):
        """Reads all of the body."""
        async for piece in self.pieces():
            self.digest.update(piece)
            self.size += len(piece)
            self.origin.progress[self.target] = self.size
        return self.digest.hexdigest()

    def note(self, complete):
        self.seen |= {"complete": complete, "bytes": self.size, "sha1": self.digest.hexdigest(),
                      "trailers": self.trailers}
        if not self.target.startswith("/control/"):
            self.origin.note(self.seen)

    async def reply(self, status, headers=(), body=b"", **more):
        """A whole reply with a length."""
        await self.start(status, [*headers, ("Content-Length", str(len(body)))], **more)
        if self.method != "HEAD":
            await self.write(body)
        await self.finish()


class Http1(Exchange):
    """HTTP/1: `reader` and `writer` are the connection's."""

    def __init__(self, origin, connection, reader, writer, head):
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        headers = [[part.strip(" \t") if index else part for index, part in enumerate(line.split(":", 1))]
                   for line in lines]
        super().__init__(origin, connection, version[5:], method, target, headers)
        self.reader, self.writer = reader, writer
        self.chunked_body = (self.header("transfer-encoding") or "").lower() == "chunked"
        self.close = version == "HTTP/1.0" or "close" in (self.header("connection") or "").lower()
        self.chunked_reply = False

    async def pieces(self):
        if self.chunked_body:
            while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                async for piece in self.sized(size):
                    yield piece
                await self.reader.readexactly(2)
            while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                self.trailers.append([part.strip() for part in line.decode("latin-1").split(":", 1)])
            return
        async for piece in self.sized(int(self.header("content-length") or 0)):
            yield piece

    async def sized(self, left):
        """So many bytes, as they come."""
        while left:
            piece = await self.reader.read(min(left, PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    async def raw(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status, headers, reason, version):
        lines = [f"HTTP/{version} {status} {reason}".rstrip(" ")]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def informational(self, status, headers=()):
        await self.head(status, headers, pages.reason(status), "1.1")

    async def start(self, status, headers, reason=None, version="1.1"):
        names = {name.lower() for name, _ in headers}
        headers = list(headers)
        if "content-length" not in names and status not in (204, 304) and version == "1.1" and not self.close:
            self.chunked_reply = True
            headers.append(("Transfer-Encoding", "chunked"))
        await self.head(status, headers, pages.reason(status) if reason is None else reason, version)

    async def write(self, data):
        if data and self.method != "HEAD":
            await self.raw(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked_reply else data)

    async def finish(self, trailers=()):
        if self.chunked_reply and self.method != "HEAD":
            lines = [f"{name}: {value}\r\n" for name, value in trailers]
            await self.raw(f"0\r\n{''.join(lines)}\r\n".encode("latin-1"))

    async def end(self):
        """Ends the connection at once."""
        self.close = True
        self.writer.close()


async def serve1(origin, connection, reader, writer, head):
    """Requests on one HTTP/1 connection, one after the other."""
    while True:
        exchange = Http1(origin, connection, reader, writer, head)
        complete = False
        try:
            await pages.answer(exchange)
            complete = True
        except (asyncio.IncompleteReadError, ConnectionError):
            exchange.close = True
        finally:
            exchange.note(complete)
        if exchange.close:
            return
        head = await read_head(reader, writer)
        if not head:
            return


async def read_head(reader, writer):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    except asyncio.LimitOverrunError:
        writer.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        return b""


class Http2(Exchange):
    """A stream of HTTP/2."""

    def __init__(self, origin, connection, served, stream, fields):
        text = [[part.decode("latin-1") for part in field] for field in fields]
        pseudo = {name: value for name, value in text if name.startswith(":")}
        headers = [["host", pseudo[":authority"]]] if ":authority" in pseudo else []
        headers += [field for field in text if not field[0].startswith(":")]
        super().__init__(origin, connection, "2", pseudo[":method"], pseudo.get(":path", ""), headers)
        self.served, self.stream = served, stream
        self.incoming = asyncio.Queue()

    async def pieces(self):
        while (piece := await self.incoming.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def fields(self, headers):
        return [(name.lower(), value.encode("latin-1")) for name, value in headers]

    async def informational(self, status, headers=()):
        self.served.h2.send_headers(self.stream, [(":status", str(status)), *self.fields(headers)])
        await self.served.flush()

    async def start(self, status, headers, reason=None, version=None):
        self.served.h2.send_headers(self.stream, [(":status", str(status)), *self.fields(headers)])
        await self.served.flush()

    async def write(self, data):
        while data and self.method != "HEAD":
            room = min(self.served.h2.local_flow_control_window(self.stream),
                       self.served.h2.max_outbound_frame_size, len(data))
            if room:
                self.served.h2.send_data(self.stream, data[:room])
                data = data[room:]
            else:
                self.served.room.clear()
                await self.served.room.wait()
            await self.served.flush()

    async def finish(self, trailers=()):
        if trailers:
            self.served.h2.send_headers(self.stream, self.fields(trailers), end_stream=True)
        else:
            self.served.h2.end_stream(self.stream)
        await self.served.flush()

    async def end(self):
        """What an end of the connection is for one stream: a reset."""
        self.served.h2.reset_stream(self.stream, 2)
        await self.served.flush()


class Serve2:
    """One HTTP/2 connection."""

    def __init__(self, origin, connection, reader, writer):
        self.origin, self.connection, self.reader, self.writer = origin, connection, reader, writer
        self.room = asyncio.Event()
        self.exchanges, self.tasks = {}, set()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=False, header_encoding=None, normalize_outbound_headers=False,
            # What a sidecar sends wrongly must be seen, not refused here.
            validate_inbound_headers=False))

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def run(self, first):
        self.h2.initiate_connection()
        data = first
        while data:
            for event in self.h2.receive_data(data):
                self.on(event)
            await self.flush()
            data = await self.reader.read(PIECE)
        for stream in self.exchanges:
            self.give(stream, ConnectionError("the connection was lost"))

    def on(self, event):
        if isinstance(event, h2.events.RequestReceived):
            exchange = Http2(self.origin, self.connection, self, event.stream_id, event.headers)
            self.exchanges[event.stream_id] = exchange
            task = asyncio.ensure_future(self.answer(exchange))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.give(event.stream_id, event.data)
        elif isinstance(event, h2.events.TrailersReceived):
            self.exchanges[event.stream_id].trailers += [
                [part.decode("latin-1") for part in field] for field in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            self.give(event.stream_id, None)
        elif isinstance(event, h2.events.StreamReset):
            self.give(event.stream_id, ConnectionError("the stream was reset"))
            self.room.set()
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.room.set()

    def give(self, stream, piece):
        if stream in self.exchanges:
            self.exchanges[stream].incoming.put_nowait(piece)

    async def answer(self, exchange):
        complete = False
        try:
            await pages.answer(exchange)
            complete = True
        except (ConnectionError, h2.exceptions.ProtocolError):
            pass
        finally:
            exchange.note(complete)
            self.exchanges.pop(exchange.stream)


async def connected(origin, reader, writer):
    origin.connections += 1
    connection = origin.connections
    try:
        head = await read_head(reader, writer)
        if head == PREFACE:
            await Serve2(origin, connection, reader, writer).run(head)
        elif head:
            await serve1(origin, connection, reader, writer, head)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main():
    name, port, log = sys.argv[1:4]
    origin = Origin(log)
    server = await asyncio.start_server(lambda *streams: connected(origin, *streams), "127.0.0.1", int(port),
                                        limit=MAX_HEAD)
    print(f"READY {name}", flush=True)
    await server.serve_forever()


asyncio.run(main())
