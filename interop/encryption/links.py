"""Which connections carry requests, as the kernel counts bytes: no word of the sidecars is needed for it."""

import subprocess
import threading
import time

# Less than this a sample is a ping, a window update or a goodbye, and no request of the load.
REQUEST_BYTES = 150
EVERY_S = 0.1


class Connection:
    """A connection of a caller's sidecar to a callee's."""

    def __init__(self, port, at):
        self.port, self.opened, self.closed = port, at, None
        self.sent = self.received = 0
        # When bytes of a request, or of a reply, last went over it.
        self.asked = self.answered = None

    def sample(self, sent, received, at):
        if sent - self.sent >= REQUEST_BYTES:
            self.asked = at
        if received - self.received >= REQUEST_BYTES:
            self.answered = at
        self.sent, self.received = sent, received


class Sampler:
    """Looks at all connections to the callees' inbound ports ten times a second."""

    def __init__(self, ports):
        self.ports = dict(ports)
        self.connections = {}
        self.over = []
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.look()
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def run(self):
        while not self.stop.wait(EVERY_S):
            self.look()

    def look(self):
        text = subprocess.run(["ss", "-tinHO", "state", "established"], capture_output=True, text=True,
                              check=True).stdout
        at, seen = time.time(), set()
        with self.lock:
            for line in text.splitlines():
                words = line.split()
                local, remote = words[2], words[3]
                port = int(remote.rsplit(":", 1)[1])
                if port not in self.ports:
                    continue
                seen.add((local, remote))
                one = self.connections.setdefault((local, remote), Connection(port, at))
                counts = dict(word.split(":", 1) for word in words[4:] if word.startswith("bytes_"))
                one.sample(int(counts.get("bytes_sent", 0)), int(counts.get("bytes_received", 0)), at)
            for key in [key for key in self.connections if key not in seen]:
                one = self.connections.pop(key)
                one.closed = at
                self.over.append(one)

    def now(self):
        """The connections there are now."""
        with self.lock:
            return list(self.connections.values())


class Switch:
    """The connections there were at a push, and how they were left."""

    def __init__(self, sampler, name):
        sampler.look()
        self.sampler, self.name, self.pushed = sampler, name, time.time()
        self.old = sampler.now()

    def left(self, quiet_s):
        """Whether requests go over others now, on every port that had any, and none went over these for a while."""
        now = time.time()
        if any(one.asked and now - one.asked < quiet_s for one in self.old if one.closed is None):
            return False
        ours = set(map(id, self.old))
        others = {one.port for one in self.sampler.now() if id(one) not in ours and one.asked}
        return {one.port for one in self.old if one.asked} <= others

    def busy(self):
        """What requests still go over: protocol and how many connections."""
        now, counts = time.time(), {}
        for one in self.old:
            if one.closed is None and one.asked and now - one.asked < 2:
                lane = self.sampler.ports[one.port]
                counts[lane] = counts.get(lane, 0) + 1
        return counts

    def table(self):
        """By protocol: connections, seconds from the push to the last request, the last reply and the last close."""
        rows = {}
        for one in self.old:
            row = rows.setdefault(self.sampler.ports[one.port], {
                "connections": 0, "lastRequestS": 0.0, "lastReplyS": 0.0, "lastCloseS": 0.0, "open": 0})
            row["connections"] += 1
            for key, at in (("lastRequestS", one.asked), ("lastReplyS", one.answered), ("lastCloseS", one.closed)):
                row[key] = round(max(row[key], (at or 0) - self.pushed), 2)
            row["open"] += one.closed is None
        return {"name": self.name, "pushed": self.pushed, "lanes": dict(sorted(rows.items()))}
