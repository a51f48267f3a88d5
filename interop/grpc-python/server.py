"""A grpcio server with everything the clients ask for: `server.py NAME PORT NARROW_PORT`.

SIGTERM stops it as servers should stop: a GOAWAY, and the calls in flight are finished.
"""

import asyncio
import hashlib
import signal
import sys

import echo_pb2
import echo_pb2_grpc
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

LARGE = 16 << 20
NARROW_STREAMS = 4
GRACE_S = 5
OPTIONS = [
    ("grpc.max_receive_message_length", LARGE),
    ("grpc.max_send_message_length", LARGE),
    # Keepalive pings as often as the client of these tests sends them.
    ("grpc.http2.min_ping_interval_without_data_ms", 50),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 50),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
]


def seen_metadata(context):
    """The tests' own metadata, and the user agent's beginning."""
    seen = []
    for name, value in context.invocation_metadata():
        if name.startswith("shop-"):
            seen.append(f"{name}: {value.hex() if isinstance(value, bytes) else value}")
        elif name == "user-agent":
            seen.append(f"{name}: {value.split('/')[0]}")
    return sorted(seen)


def remaining_ms(context):
    remaining = context.time_remaining()
    # Without a deadline grpcio says either nothing or a number of centuries.
    return -1 if remaining is None or remaining > 1e9 else int(remaining * 1000)


class Echo(echo_pb2_grpc.EchoServicer):
    """Echoes, waits, fails and remembers, as asked."""

    def __init__(self, name):
        self.name, self.ended = name, {}

    async def begin(self, context):
        metadata = dict(context.invocation_metadata())
        if "shop-want" in metadata:
            await context.send_initial_metadata((
                ("shop-initial", "first"), ("shop-initial", "second"), ("shop-initial-bin", b"\x00\x01\xfe\xff")))
            context.set_trailing_metadata((("shop-trailing", "last"), ("shop-trailing-bin", b"\xff\x00")))

    async def fail(self, ask, context):
        if ask.status:
            await context.abort(grpc.StatusCode(next(
                code.value for code in grpc.StatusCode if code.value[0] == ask.status)), ask.message)

    async def watched(self, name, work):
        """Runs a call and notes how it ended, under the name known by then."""
        try:
            result = await work
            if name():
                # A reset is first seen as the end of the caller's messages, and only then as what it is.
                await asyncio.sleep(0.05)
            self.ended[name()] = "completed"
            return result
        except BaseException:
            self.ended[name()] = "cancelled"
            raise

    async def Unary(self, request, context):
        return await self.watched(lambda: request.watch, self.unary(request, context))

    async def unary(self, ask, context):
        left = remaining_ms(context)
        await self.begin(context)
        if ask.wait_ms:
            await asyncio.sleep(ask.wait_ms / 1000)
        await self.fail(ask, context)
        # Who answered is what balancing and removals are told by.
        text = self.name if ask.text == "?" else ask.text
        return echo_pb2.Answer(text=text, payload=bytes(ask.reply_bytes), metadata=seen_metadata(context),
                               digest=hashlib.sha1(ask.payload).hexdigest(), deadline_ms=left, messages=1)

    async def Download(self, request, context):
        await self.watched(lambda: request.watch, self.download(request, context))

    async def download(self, ask, context):
        await self.begin(context)
        if ask.wait_ms:
            await asyncio.sleep(ask.wait_ms / 1000)
        for number in range(ask.replies):
            await context.write(echo_pb2.Answer(text=f"{ask.text} {number}", payload=bytes(ask.reply_bytes)))
        await self.fail(ask, context)

    async def Upload(self, request_iterator, context):
        await self.begin(context)
        digest, texts = hashlib.sha1(), []
        async for ask in request_iterator:
            digest.update(ask.payload)
            texts.append(ask.text)
            await self.fail(ask, context)
        return echo_pb2.Answer(text=" ".join(texts), digest=digest.hexdigest(), messages=len(texts))

    async def Chat(self, request_iterator, context):
        names = [""]
        await self.watched(lambda: names[-1], self.chat(request_iterator, context, names))

    async def chat(self, asks, context, names):
        await self.begin(context)
        if any(name == "shop-greet" for name, _ in context.invocation_metadata()):
            await context.write(echo_pb2.Answer(text="hello"))
        async for ask in asks:
            names += [ask.watch] if ask.watch else []
            if ask.wait_ms:
                await asyncio.sleep(ask.wait_ms / 1000)
            await self.fail(ask, context)
            await context.write(echo_pb2.Answer(text=ask.text, payload=bytes(ask.reply_bytes)))
        await context.write(echo_pb2.Answer(text="bye"))

    async def Ended(self, request, _context):
        return echo_pb2.Answer(text=self.ended.get(request.watch, ""))


async def start(name, port, services, extra=()):
    server = grpc.aio.server(options=[*OPTIONS, *extra])
    echo = Echo(name)
    if "Echo" in services:
        echo_pb2_grpc.add_EchoServicer_to_server(echo, server)
    if "Narrow" in services:
        echo_pb2_grpc.add_NarrowServicer_to_server(echo, server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    await checks.set("raddle.interop.Echo", health_pb2.HealthCheckResponse.SERVING)
    await checks.set("raddle.interop.Closed", health_pb2.HealthCheckResponse.NOT_SERVING)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server


async def main():
    name, port, narrow = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    servers = [await start(name, port, ("Echo",))]
    if narrow:
        servers.append(await start(name, narrow, ("Narrow",), [("grpc.max_concurrent_streams", NARROW_STREAMS)]))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(f"READY {name}", flush=True)
    await stop.wait()
    await asyncio.gather(*(server.stop(GRACE_S) for server in servers))


asyncio.run(main())
