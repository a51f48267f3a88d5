"""Requests to many sidecars at once, at random moments, over one connection each; and what became of them."""

import asyncio
import random
import re
import threading
import time

TURN = 0.005
STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d)")


class Stream(asyncio.Protocol):
    """A connection on which requests do not wait for the answers before them."""

    def __init__(self, load):
        self.load, self.transport, self.end = load, None, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        # A status line may come in two pieces: as much is kept as is less than a whole one.
        data = self.end + data
        done = 0
        for status in STATUS.finditer(data):
            self.load.count(status[1])
            done = status.end()
        self.end = data[max(done, len(data) - 11):]

    def connection_lost(self, error):
        self.transport = None


class Load:
    """Requests for one path; `demand[i]`: how many a second go to the i-th sidecar."""

    def __init__(self, path, ports):
        self.request = f"GET {path} HTTP/1.1\r\nhost: quota\r\n\r\n".encode()
        self.ports, self.demand = ports, [0.0] * len(ports)
        self.streams = []
        # (when, requests that passed, refused, otherwise answered) in all.
        self.passed, self.refused, self.other = 0, 0, 0
        self.random = random.Random(6)

    def count(self, status):
        if status == b"200":
            self.passed += 1
        elif status == b"429":
            self.refused += 1
        else:
            self.other += 1

    async def connect(self):
        loop = asyncio.get_running_loop()
        for port in self.ports:
            _, stream = await loop.create_connection(lambda: Stream(self), "127.0.0.1", port)
            self.streams.append(stream)

    def turn(self, due, until):
        """Sends what is due before `until`; `due[i]`: when the next request goes to the i-th."""
        for i, rate in enumerate(self.demand):
            if rate <= 0:
                due[i] = until
                continue
            n = 0
            while due[i] <= until:
                due[i] += self.random.expovariate(rate)
                n += 1
            if n and self.streams[i].transport:
                self.streams[i].transport.write(self.request * n)


class Generator:
    """All loads, in a thread of their own."""

    def __init__(self, loads):
        self.loads, self.over, self.failed = loads, False, None
        # (time, longest that it stood still since the one before, requests that passed of each load).
        self.marks = []
        self.thread = threading.Thread(target=self.work, daemon=True)

    def work(self):
        try:
            asyncio.run(self.run())
        except Exception as error:
            self.failed = error

    async def run(self):
        for load in self.loads:
            await load.connect()
        last = mark = time.monotonic()
        due, still = [[last] * len(load.ports) for load in self.loads], 0.0
        while not self.over:
            await asyncio.sleep(TURN)
            now = time.monotonic()
            still, last = max(still, now - last), now
            for load, at in zip(self.loads, due):
                load.turn(at, now)
            if now - mark >= 0.25:
                self.marks.append((now, still, [load.passed for load in self.loads]))
                mark, still = now, 0.0

    def watch(self, seconds):
        """The marks of so many seconds from now on."""
        first = len(self.marks)
        time.sleep(seconds)
        if self.failed:
            raise self.failed
        return self.marks[max(first - 1, 0):]


def used(marks, load, limit):
    """What passed in all, as a share of the limit."""
    (first, _, before), (last, _, after) = marks[0], marks[-1]
    return (after[load] - before[load]) / (limit * (last - first))


def most(marks, load, limit, window=10.0):
    """The most that passed in ten seconds, as a share of the limit; and how long the counting stood still then."""
    worst = (0.0, 0.0)
    for i, (began, _, before) in enumerate(marks):
        for j in range(i + 1, len(marks)):
            ended, _, after = marks[j]
            if ended - began >= window - 0.01:
                still = max(one[1] for one in marks[i:j + 1])
                worst = max(worst, ((after[load] - before[load]) / (limit * (ended - began)), still))
                break
    return worst


def since(marks, load, limit, share):
    """Seconds until a quarter of a second in which so much of the limit passes; None = it never does."""
    for one, two in zip(marks, marks[1:]):
        if two[2][load] - one[2][load] >= share * limit * (two[0] - one[0]):
            return two[0] - marks[0][0]
    return None
