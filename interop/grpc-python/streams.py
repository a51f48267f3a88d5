"""Streams that are always open, until SIGTERM: `streams.py TARGET STREAMS SECONDS [AUTHORITY]`.

Each is a Chat in which a message is answered ten times a second; after SECONDS it ends in good order and another
begins. Lines as those of steady.py: a message answered counts, and so does the end of a stream.
"""

import asyncio
import json
import signal
import sys
import time

import echo_pb2
import echo_pb2_grpc
import grpc

PAUSE_S = 0.1
PATIENCE_S = 5


class Tally:
    def __init__(self):
        self.by, self.failed = {}, {}

    def answered(self, what):
        self.by[what] = self.by.get(what, 0) + 1

    def line(self):
        said = {"at": time.time() * 1000, "by": self.by, "failed": self.failed}
        self.by, self.failed = {}, {}
        return json.dumps(said)

    async def stream(self, echo, seconds, stop):
        try:
            chat, end, number = echo.Chat(timeout=seconds + 60), time.monotonic() + seconds, 0
            while time.monotonic() < end and not stop.is_set():
                number += 1
                await chat.write(echo_pb2.Ask(text=str(number)))
                answer = await asyncio.wait_for(chat.read(), PATIENCE_S)
                if answer is grpc.aio.EOF or answer.text != str(number):
                    raise ValueError(f"message {number} of a stream was answered with {answer}")
                self.answered("message")
                await asyncio.sleep(PAUSE_S)
            await chat.done_writing()
            last = await asyncio.wait_for(chat.read(), PATIENCE_S)
            if last is grpc.aio.EOF or last.text != "bye" or await chat.code() is not grpc.StatusCode.OK:
                raise ValueError(f"a stream ended with {last}")
            self.answered("stream")
        except grpc.aio.AioRpcError as error:
            self.fail(f"{error.code().name}: {error.details()}")
        except (ValueError, asyncio.TimeoutError, asyncio.InvalidStateError) as error:
            self.fail(f"{type(error).__name__}: {error}")

    def fail(self, text):
        self.failed[text] = self.failed.get(text, 0) + 1


async def main():
    target, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    authority = sys.argv[4] if len(sys.argv) > 4 else "raddle.interop.Echo"
    options = [("grpc.enable_retries", 0), ("grpc.default_authority", authority)]
    stop, tally = asyncio.Event(), Tally()
    for one in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(one, stop.set)

    async def one_after_the_other(echo, first):
        # Not all at once: at every moment some are young and some are old.
        await tally.stream(echo, first, stop)
        while not stop.is_set():
            await tally.stream(echo, seconds, stop)

    async def tell():
        while True:
            await asyncio.sleep(0.1)
            print(tally.line(), flush=True)

    async with grpc.aio.insecure_channel(target, options=options) as channel:
        echo = echo_pb2_grpc.EchoStub(channel)
        print("STARTED", flush=True)
        telling = asyncio.create_task(tell())
        await asyncio.gather(*(one_after_the_other(echo, seconds * (n + 1) / count) for n in range(count)))
        telling.cancel()
        print(tally.line(), flush=True)


asyncio.run(main())
