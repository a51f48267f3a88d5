"""gRPC: every case directly, then through two sidecars; and load while the mesh is disturbed."""

import json
import re
import subprocess
import time

import comparing
import grpc_peers
import http_mesh
import mesh
from harness import Failure, Skip, Workspace, accepts, free_ports, need, wait_until

PAIRINGS = ("grpc-py-py", "grpc-js-js", "grpc-py-js", "grpc-js-py")
ECHO, NARROW, DEAD = "raddle.interop.Echo", "raddle.interop.Narrow", "raddle.interop.Dead"
HEALTH = "grpc.health.v1.Health"

# grpcio's server counts a stream for a moment after its end, and resets what its client opens in its place.
QUIRKS = {"py": [(r"unary\.40 at once.*", r"ok true|throw (UNAVAILABLE|RESOURCE_EXHAUSTED): (Stream re|Bandwidth).*")],
          "js": []}
THROUGH_MESH = [
    # The sidecar, not the server, knows that nobody publishes it, or that nobody answers, and says so.
    (r"missing\.method's service", r"throw (UNIMPLEMENTED|UNAVAILABLE): .*raddle.* \[x-raddle-reason: N[CR]\]"),
    (r"frames\.missing service", r"HEADERS :status: 200, .*content-type: application/grpc, .*grpc-status: (12|14), .*"
                                r"x-raddle-reason: N[CR].* END_STREAM"),
    (r"missing\.server", r"throw UNAVAILABLE: .*raddle.* \[x-raddle-reason: UF\]"),
]

SERVERS = 3
REWRITES = 60
KILLS = 9
# How a call that may not be sent again may fail when its server is killed.
LOST = re.compile(r"UNAVAILABLE \[(UC|UF)\] .*raddle")
# Unary calls may be sent again, chats may not.
RETRY = ["retry: {attempts: 5, on: [connectFailure, connectionLost, serverError], budget: 1.0,",
         "  idempotentMethods: [Unary]}"]


def pairing(report, name, record):
    """Runs one pairing, such as `grpc-py-js` (caller Python, callee Node)."""
    _, caller, callee = name.split("-")
    need("nghttp")
    for language in sorted({caller, callee}):
        grpc_peers.READY[language]()
    with Workspace(name) as work:
        app, narrow, at, narrow_at, outbound, nobody, callee_admin, caller_admin = free_ports(8)
        grpc_peers.start_server(work, callee, "server", app, narrow)
        direct = outcomes(work, "direct", caller, app, narrow)
        comparing.compare(report, f"{name} direct", comparing.recorded(name, direct, record), direct,
                          comparing.Agreement(QUIRKS[callee]))
        try:
            mesh.binary()
        except Skip as reason:
            report.skip(f"{name} through the mesh", reason)
            return
        http_mesh.start(work, "callee-sidecar", callee_admin, http_mesh.sidecar(
            "callee-1", "callee", callee_admin, [http_mesh.forward(at, app), http_mesh.forward(narrow_at, narrow)]))
        http_mesh.start(work, "caller-sidecar", caller_admin,
                        http_mesh.sidecar("caller-1", "caller", caller_admin, outbound=[http_mesh.listen(outbound)],
                                          log=work.folder / "caller-access.log"),
                        http_mesh.service(ECHO, [at], "grpc"), http_mesh.service(NARROW, [narrow_at], "grpc"),
                        http_mesh.service(HEALTH, [at], "grpc"), http_mesh.service(DEAD, [nobody], "grpc"))
        meshed = outcomes(work, "meshed", caller, outbound, outbound)
        if not comparing.compare(report, f"{name} through the mesh", direct, meshed,
                                 comparing.Agreement(THROUGH_MESH + QUIRKS[callee])):
            work.print_logs()


def outcomes(work, name, caller, port, narrow):
    """Runs the client; {case: outcome}."""
    out = work.folder / f"{name}.json"
    grpc_peers.run_client(work, caller, f"client-{name}", out, f"127.0.0.1:{port}", f"127.0.0.1:{narrow}")
    return {**json.loads(out.read_text()), **frame_cases(work, port)}


# gRPC messages: status 9 and nothing else; nothing at all.
ASKS = {"frames.failure is trailers only": ("Echo/Unary", b"\0\0\0\0\x02\x30\x09"),
        "frames.unary": ("Echo/Unary", b"\0\0\0\0\0"), "frames.download of nothing": ("Echo/Download", b"\0\0\0\0\0"),
        "frames.missing service": ("Missing/Unary", b"\0\0\0\0\0")}


def frame_cases(work, port):
    """What frames calls are answered with, as nghttp saw them."""
    seen = {}
    for case, (method, ask) in ASKS.items():
        body = work.folder / "ask"
        body.write_bytes(ask)
        done = subprocess.run(["nghttp", "-nv", "--no-dep", "-t", "10", "-d", body, "-H:method: POST", "-Hte: trailers",
                               "-Hcontent-type: application/grpc", f"http://127.0.0.1:{port}/raddle.interop.{method}"],
                              capture_output=True, text=True, errors="replace", check=False, timeout=20)
        seen[case] = frames(done.stdout)
    return seen


def frames(text):
    """The frames of the one stream: headers sorted by name, the length of data, and where it ended."""
    found, headers = [], []
    for line in text.splitlines():
        if header := re.search(r"recv \(stream_id=\d+\) (\S+: .*)", line):
            headers += [header[1]] if not header[1].startswith("date:") else []
        elif frame := re.search(r"recv (HEADERS|DATA|RST_STREAM) frame <length=(\d+), flags=0x(\w+)", line):
            kind, length, flags = frame[1], frame[2], int(frame[3], 16)
            what = ", ".join(sorted(headers)) if kind == "HEADERS" else length
            # Whether the end is told with the last data or after them is nobody's business.
            if (kind, length) != ("DATA", "0"):
                found.append(f"{kind} {what}" + (" END_STREAM" if flags & 1 else ""))
            elif flags & 1:
                found[-1] += " END_STREAM"
            headers = []
    return " | ".join(found)


class Servers:
    """Servers of both languages under load through two sidecars."""

    def __init__(self, work, extra=(), languages=("js", "py", "js")):
        grpc_peers.ready_python()
        grpc_peers.ready_node()
        mesh.binary()
        self.work, self.languages = work, languages
        self.apps = free_ports(SERVERS)
        self.running = [self.start(index) for index in range(SERVERS)]
        self.fleet = http_mesh.Fleet(work, self.apps, ECHO, "grpc", extra)

    def start(self, index, life=0):
        return grpc_peers.start_server(self.work, self.languages[index], f"server-{index}-{life}", self.apps[index])

    def load(self, seconds):
        target = f"127.0.0.1:{self.fleet.outbound}"
        load = self.work.start("load", grpc_peers.command("js", "load", target, seconds), grpc_peers.SETTINGS)
        load.await_output("STARTED", 30)
        return load


def summary(load):
    lines = load.finish(60).splitlines()
    return json.loads([line for line in lines if line.startswith("{")][-1])


def shown(result):
    return "; ".join(
        f"{kind}: {one['sent']} calls, {one['ok']} right, {one['wrong']} wrong, {one['failed']} failed, "
        f"{one['hung']} hung, slowest {one['max_ms']} ms {json.dumps(one['failures'])}"
        for kind, one in result.items())


def faultless(name, result, kinds=("unary", "chat")):
    for kind, one in result.items():
        if one["wrong"] or one["hung"] or one["ok"] < 50 or (kind in kinds and one["failed"]):
            raise Failure(f"{name} cost calls: {shown(result)}")


def reload(report):
    """Changes of weights, routes and services under load: not one failed call."""
    with Workspace("grpc-reload") as work:
        servers = Servers(work)
        load = servers.load(12)
        for number in range(REWRITES):
            servers.fleet.rewrite(number)
            time.sleep(0.15)  # The pace of the changes, not a wait for something.
        result = summary(load)
        faultless(f"{REWRITES} rewrites", result)
        report.ok("grpc-reload", f"{REWRITES} rewrites; {shown(result)}")


def drain(report):
    """Servers that stop as servers should (GOAWAY, and finish what runs) cost no call."""
    with Workspace("grpc-drain") as work:
        # grpcio's server answers calls that come while it stops with CANCELLED, as if the app had: not asked here.
        servers = Servers(work, [http_mesh.policy("retry", [ECHO], RETRY)], languages=("js", "js", "js"))
        load = servers.load(15)
        stops = 0
        while load.alive() and stops < 6:
            victim = stops % SERVERS
            servers.running[victim].stop(10)
            wait_until(lambda: not accepts(servers.apps[victim]), 5, "the stopped server's port to close")
            stops += 1
            servers.running[victim] = servers.start(victim, stops)
            time.sleep(0.5)  # The pace of the stops, not a wait for something.
        result = summary(load)
        faultless(f"{stops} graceful stops", result)
        report.ok("grpc-drain", f"{stops} graceful stops; {shown(result)}")


def kill(report):
    """One of three servers killed every second: no idempotent call fails, others fail at once and say why."""
    with Workspace("grpc-kill") as work:
        # grpcio writes a unary reply at once. grpc-js writes head, message and trailers one by one: killed
        # between them, its reply has begun to reach the caller, and no call can then be sent again.
        servers = Servers(work, [http_mesh.policy("retry", [ECHO], RETRY)], languages=("py", "py", "py"))
        load = servers.load(16)
        kills = 0
        while kills < KILLS and load.alive():
            victim = kills % SERVERS
            began = time.monotonic()
            servers.running[victim].kill()
            wait_until(lambda: not accepts(servers.apps[victim]), 5, "the killed server's port to close")
            kills += 1
            servers.running[victim] = servers.start(victim, kills)
            time.sleep(max(0.0, began + 1 - time.monotonic()))  # The pace of the kills, not a wait for something.
        result = summary(load)
        faultless(f"{kills} kills", result, kinds=("unary",))
        strange = [text for text in result["chat"]["failures"] if not LOST.match(text)]
        if strange:
            raise Failure(f"{kills} kills; unexpected {strange}; {shown(result)}")
        report.ok("grpc-kill", f"{kills} kills; {shown(result)}")


DISTURBANCES = {"grpc-reload": reload, "grpc-drain": drain, "grpc-kill": kill}
