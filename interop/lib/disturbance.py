"""Load through two sidecars while the mesh is disturbed: nothing may be lost that need not be."""

import json
import re
import time

import mesh
import peers
from harness import Failure, Workspace, accepts, free_ports, wait_until

SHOP = mesh.SERVICES[0]
SERVERS = 3
THREADS = 8
REWRITES = 100
KILLS = 6
# A call in flight to a server that dies may fail, but only so, and only this late.
LOST = re.compile(r"raddle UC|ConnectionClosedException: Connection closed")
LOST_WITHIN_MS = 1000


class Fleet:
    """Three servers, one sidecar beside them, and the caller's sidecar whose configuration is rewritten."""

    def __init__(self, work):
        mesh.binary()
        peers.ready_java()
        self.work = work
        ports = free_ports(2 * SERVERS + 3)
        self.apps, self.inbound = ports[:SERVERS], ports[SERVERS:2 * SERVERS]
        self.outbound, self.callee_admin, self.caller_admin = ports[2 * SERVERS:]
        self.servers = [self.start_server(index) for index in range(SERVERS)]
        self.caller = work.folder / "caller.yaml"
        self.access_log = work.folder / "caller-access.json"

    def start_server(self, index, life=0):
        """A server that is ready; each life has a log of its own, in which to see that."""
        return peers.start_java_server(self.work, f"server-{index}-{life}", self.apps[index])

    def start_sidecars(self, endpoints, extra=()):
        callee = self.work.folder / "callee.yaml"
        mesh.write(callee, mesh.sidecar("order-1", "order", self.callee_admin,
                                        inbound=list(zip(self.inbound, self.apps))))
        self.write_caller(endpoints, extra=extra)
        mesh.start(self.work, "callee-sidecar", callee, self.callee_admin)
        mesh.start(self.work, "caller-sidecar", self.caller, self.caller_admin)

    def write_caller(self, endpoints, weights=None, extra=()):
        head = mesh.sidecar("shop-1", "shop", self.caller_admin, outbound=[(self.outbound, None)],
                            log=self.access_log)
        mesh.write(self.caller, mesh.document(head, mesh.service(SHOP, endpoints, weights), *extra))

    def start_load(self, seconds):
        load = self.work.start("load", peers.java(
            "client.Load", f"127.0.0.1:{self.outbound}", THREADS, seconds))
        load.await_output("STARTED", 60)
        return load


def summary(load, seconds):
    """The load's JSON line once it is done."""
    lines = load.finish(seconds).splitlines()
    return json.loads([line for line in lines if line.startswith("{")][-1])


def shown(result):
    return (f"{result['sent']} calls, {result['ok']} right, {result['wrong']} wrong, {result['failed']} failed, "
            f"{result['hung']} hung, slowest {result['max_ms']:.0f} ms, "
            f"slowest failure {result['max_failed_ms']:.0f} ms {json.dumps(result['failures'])}")


def route(number):
    """A rule that comes and goes: it moves a share of the load to one server."""
    return f"""apiVersion: raddle.io/v1
kind: Route
metadata: {{name: shift-{number}}}
spec:
  to: {{services: ["{SHOP}"]}}
  rules:
  - name: shift
    percent: {number % 90 + 10}
    send: {{labels: {{version: v{number % SERVERS + 1}}}}}
"""


# Requests that certainly never ran are sent again, to another server.
RETRY = f"""apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {{name: retry}}
spec:
  to: {{services: ["{SHOP}"]}}
  retry: {{attempts: 3, on: [connectFailure], budget: 1.0}}
"""


def reload(report):
    """100 changes of weights, routes and services under load: not one failed call."""
    with Workspace("reload") as work:
        fleet = Fleet(work)
        fleet.start_sidecars(fleet.inbound)
        load = fleet.start_load(20)
        for number in range(REWRITES):
            weights = [(number * 37 + index * 53) % 100 + 1 for index in range(SERVERS)]
            extra = [route(number)] if number % 2 else []
            if number % 3:
                extra.append(mesh.service(f"com.shop.Extra{number}:1.0", [fleet.inbound[number % SERVERS]]))
            fleet.write_caller(fleet.inbound, weights, extra)
            time.sleep(0.15)  # The pace of the changes, not a wait for something.
        result = summary(load, 60)
        if result["failed"] or result["wrong"] or result["hung"] or result["ok"] < 1000:
            raise Failure(f"{REWRITES} rewrites cost calls: {shown(result)}")
        report.ok("reload", f"{REWRITES} rewrites; {shown(result)}")


def kill(report):
    """One of three servers killed again and again: only calls on its wire fail, at once, and say why."""
    with Workspace("kill") as work:
        fleet = Fleet(work)
        fleet.start_sidecars(fleet.inbound, [RETRY])
        load = fleet.start_load(30)
        kills, killed_at = 0, []
        while kills < KILLS and load.alive():
            victim = kills % SERVERS
            killed_at.append(time.time() * 1000)
            fleet.servers[victim].kill()
            wait_until(lambda: not accepts(fleet.apps[victim]), 5, "the killed server's port to close")
            time.sleep(0.5)  # How long it is away, not a wait for something.
            kills += 1
            fleet.servers[victim] = fleet.start_server(victim, kills)
        result = summary(load, 60)
        strange = {text: count for text, count in result["failures"].items() if not LOST.search(text)}
        if strange or result["wrong"] or result["hung"] or result["ok"] < 1000:
            raise Failure(f"{kills} kills; unexpected {json.dumps(strange)}; {shown(result)}")
        # Not how long a call had lasted, but how long after the kill its caller was told.
        told = [min((at - kill for kill in killed_at if kill <= at), default=None) for at in result["failed_at_ms"]]
        if any(after is None or after > LOST_WITHIN_MS for after in told):
            raise Failure(f"{kills} kills; told later than {LOST_WITHIN_MS} ms after a kill: {told}; {shown(result)}")
        slowest = f"told at most {max(told, default=0):.0f} ms after the kill"
        report.ok("kill", f"{kills} kills; {slowest}; {shown(result)}")
