"""Calls at a steady pace until SIGTERM: `steady.py TARGET PER_SECOND [AUTHORITY]`.

A line of JSON every 100 ms: when (ms since the epoch), who answered how often, and what failed how often.
"""

import asyncio
import json
import signal
import sys
import time

import echo_pb2
import echo_pb2_grpc
import grpc

PATIENCE_S = 5


class Tally:
    def __init__(self):
        self.by, self.failed = {}, {}

    async def call(self, echo):
        try:
            # Not wait_for_ready: a moment without endpoints must show.
            answer = await echo.Unary(echo_pb2.Ask(text="?"), timeout=PATIENCE_S)
            self.by[answer.text] = self.by.get(answer.text, 0) + 1
        except grpc.aio.AioRpcError as error:
            text = f"{error.code().name}: {error.details()}"
            self.failed[text] = self.failed.get(text, 0) + 1

    def line(self):
        said = {"at": time.time() * 1000, "by": self.by, "failed": self.failed}
        self.by, self.failed = {}, {}
        return json.dumps(said)


async def main():
    target, per_second = sys.argv[1], int(sys.argv[2])
    options = [("grpc.enable_retries", 0), ("grpc.max_reconnect_backoff_ms", 500)]
    if len(sys.argv) > 3:
        options.append(("grpc.default_authority", sys.argv[3]))
    stop = asyncio.Event()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)
    tally, running = Tally(), set()
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        echo = echo_pb2_grpc.EchoStub(channel)
        print("STARTED", flush=True)
        began, sent, told = time.monotonic(), 0, time.monotonic()
        while not stop.is_set():
            for _ in range(int((time.monotonic() - began) * per_second) - sent):
                call = asyncio.create_task(tally.call(echo))
                running.add(call)
                call.add_done_callback(running.discard)
                sent += 1
            if time.monotonic() - told >= 0.1:
                told = time.monotonic()
                print(tally.line(), flush=True)
            await asyncio.sleep(0.01)
        if running:
            await asyncio.wait(running, timeout=PATIENCE_S)
        print(tally.line(), flush=True)


asyncio.run(main())
