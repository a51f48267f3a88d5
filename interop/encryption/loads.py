"""The callers: generators at a fixed rate, requests that take long, and real clients; what each came to."""

import json
import signal
import time

import grpc_peers
import mesh
import peers
from harness import Failure
from steady import Watcher

SIZE = 256
# Longer than a long request takes: then it is a failure and not patience.
PATIENCE_S = 60
# Shares of the rate, and connections: enough that no connection of HTTP/1.1 is a bottleneck.
SHORT = {"bolt": (0.4, 16, 64), "dubbo": (0.2, 8, 64), "http": (0.15, 64, 1), "http2": (0.2, 8, 64),
         "grpc": (0.05, 4, 64)}
LONG = ("bolt", "dubbo", "http", "http2", "grpc")
LONG_PER_SECOND = 4


def service(protocol, long=False):
    """What a generator of this protocol asks for."""
    kind = "Long" if long else "Echo"
    return {"bolt": f"bench.{kind}:1.0", "dubbo": f"bench.Dubbo{kind}:1.0", "http": f"{kind.lower()}1.bench",
            "http2": f"{kind.lower()}2.bench", "grpc": f"bench.Grpc{kind}"}[protocol]


class Generator:
    """`raddle bench load` until it is stopped; its timeline is read as it grows."""

    def __init__(self, work, protocol, port, rate, long_s=0):
        self.name = f"{protocol} {long_s} s" if long_s else protocol
        self.protocol, self.long_s = protocol, long_s
        file = self.name.replace(" ", "-")
        self.timeline = work.folder / f"{file}.timeline"
        _, connections, depth = SHORT[protocol]
        if long_s:
            # What is in flight at once, and as much again.
            depth = max(1, int(rate * long_s * 2)) if protocol != "http" else 1
            connections = 2 if protocol != "http" else int(rate * long_s * 2)
        command = [mesh.binary(), "bench", "load", "--protocol", protocol, "--target", f"127.0.0.1:{port}",
                   "--service", service(protocol, long_s > 0), "--rate", rate, "--connections", connections, "--depth", depth,
                   "--size", SIZE, "--warmup", "0s", "--duration", "1h", "--timeout", f"{PATIENCE_S}s",
                   "--timeline", self.timeline, "-o", "json"]
        self.process = work.start(f"load-{file}", command)

    def lines(self):
        if not self.timeline.exists():
            return []
        # The last line may not be whole yet.
        return [json.loads(line) for line in self.timeline.read_text().split("\n")[:-1]]

    def started(self):
        return any(line.get("good") for line in self.lines())

    def failures(self):
        return [{"load": self.name, "at": line["at"] / 1e3, "due": line["due"] / 1e3, "kind": line["failed"],
                 "which": f"connection {line['connection']}, id {line['id']}"}
                for line in self.lines() if "failed" in line]

    def finish(self):
        self.process.popen.terminate()
        text = self.process.finish(PATIENCE_S + 10)
        result = json.loads(text[text.index("{"):])
        failed = self.failures()
        lines = [line for line in self.lines() if "good" in line]
        good = sum(line["good"] for line in lines)
        return {"sent": good + len(failed), "answered": good, "failed": len(failed),
                "generatorUs": result["generator_us_per_request"]}

    def quantile(self, begin, end, share):
        """The latency in ms that this share of the replies between two moments stayed below."""
        steps = {}
        for line in self.lines():
            # A line tells of the whole second that began then.
            if "good" in line and begin <= line["at"] / 1e3 and line["at"] / 1e3 + 1 <= end:
                for step, count in line["latency"]:
                    steps[step] = steps.get(step, 0) + count
        wanted = sum(steps.values()) * share
        for step in sorted(steps):
            wanted -= steps[step]
            if wanted <= 0:
                return 2 ** ((step + 1) / 16) / 1e3
        return None


class Steady:
    """A real client that says ten times a second who answered and what failed (see lib/steady.py)."""

    def __init__(self, work, name, command, env=None):
        self.name, self.watcher = name, Watcher(work, name, command, env)

    def started(self):
        return bool(self.watcher.answered(0))

    def failures(self):
        return [{"load": self.name, "at": line["at"] / 1e3, "due": None, "kind": kind, "which": f"{count} calls"}
                for line in self.watcher.lines() for kind, count in line["failed"].items()]

    def finish(self):
        self.watcher.process.popen.terminate()
        self.watcher.process.finish(PATIENCE_S)
        answered = sum(self.watcher.answered(0).values())
        failed = sum(self.watcher.failures().values())
        return {"sent": answered + failed, "answered": answered, "failed": failed}


class Java:
    """SOFARPC's client for Java; it says at its end what failed and when."""

    def __init__(self, work, port, per_second):
        self.name = "SOFARPC Java"
        command = peers.java("client.Load", f"127.0.0.1:{port}", 4, 3600, per_second)
        # With heartbeats five times a second it gives a connection up that a busy machine keeps waiting for 0.6 s.
        command = [part for part in command if "heartbeat.interval" not in str(part)]
        self.process = work.start("sofa-java", command)
        self.process.await_output("STARTED", 60)
        self.result = None

    def started(self):
        return True

    def failures(self):
        if self.result is None:
            return []
        kinds = json.dumps(self.result["failures"])
        return [{"load": self.name, "at": at / 1e3, "due": None, "kind": f"one of {kinds}", "which": ""}
                for at in self.result["failed_at_ms"]]

    def finish(self):
        self.process.popen.send_signal(signal.SIGUSR2)
        lines = self.process.finish(60).splitlines()
        self.result = json.loads([line for line in lines if line.startswith("{")][-1])
        failed = self.result["failed"] + self.result["wrong"] + self.result["hung"]
        return {"sent": self.result["sent"], "answered": self.result["ok"], "failed": failed}


def real(work, ports, left_out):
    """The real clients whose toolchains there are; `left_out` gets the others with the reason."""
    python = [grpc_peers.PYTHON / ".venv/bin/python"]
    started = []
    if "java" not in left_out:
        started.append(Java(work, ports["sofa"], 100))
    if "node" not in left_out:
        started.append(Steady(work, "sofa-rpc Node", ["node", peers.NODE / "src/steady.js", ports["sofa"], 50]))
    if "grpcio" not in left_out:
        target = f"127.0.0.1:{ports['grpc']}"
        started.append(Steady(work, "grpcio", [*python, grpc_peers.PYTHON / "steady.py", target, 50,
                                               "raddle.interop.Echo"], grpc_peers.SETTINGS))
        started.append(Steady(work, "grpcio streams", [*python, grpc_peers.PYTHON / "streams.py", target, 10,
                                                       ports["longS"]], grpc_peers.SETTINGS))
    return started


def generators(work, ports, rate, long_s):
    """The generators, at so many requests a second together."""
    made = [Generator(work, protocol, ports[protocol], rate * share)
            for protocol, (share, _, _) in SHORT.items()]
    return made + [Generator(work, protocol, ports[protocol], LONG_PER_SECOND, long_s) for protocol in LONG]


def all_started(loads, seconds):
    deadline = time.monotonic() + seconds
    while not all(load.started() for load in loads):
        if time.monotonic() > deadline:
            idle = [load.name for load in loads if not load.started()]
            said = [failure for load in loads for failure in load.failures()][:5]
            raise Failure(f"no answer within {seconds} s: {', '.join(idle)}; {said}")
        time.sleep(0.1)
