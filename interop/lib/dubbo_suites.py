"""Dubbo and Triple: every case directly, then through two sidecars; what refusals look like; load under disturbance."""

import json
import re
import time

import comparing
import dubbo_peers
import http_mesh
import mesh
from harness import Failure, Skip, Workspace, accepts, free_ports, wait_until

API = "io.raddle.interop.dubbo.api."
SHOP, SECOND, DEAD = API + "ShopService:1.0", API + "ShopService:1.0:second", API + "DeadService:1.0"
TRIPLE_SHOP, TRIPLE_DEAD = API + "ShopService", API + "DeadService"
PROTO, PYTHON_SHOP = "io.raddle.interop.dubbo.proto.ShopProtoService", "io.raddle.interop.dubbo.python.Shop"

# Whoever notices first, client or sidecar, words a timeout its own way.
TIMEOUT = r"throw .*([Tt]imeout|DEADLINE_EXCEEDED|raddle UT|timed out).*"
# The sidecar, not the server, knows that nobody publishes it, and says so.
UNKNOWN = r"throw .*raddle NC: .*"
DUBBO = comparing.Agreement([
    (r"dubbo-timeout\.(sync|future)", TIMEOUT),
    (r"dubbo-missing\.(service|version)|failure\.no such (service|version)", UNKNOWN),
])
TRIPLE = comparing.Agreement([
    (r"triple-timeout\.(sync|future)|protobuf-unary\.deadline", TIMEOUT),
    (r"(triple|java)-missing\.service", r"throw .*(UNIMPLEMENTED|UNAVAILABLE).*raddle.*"),
])
# The direct runs' own timeouts may be worded by either of two timers of the client.
DIRECT = comparing.Agreement([
    (r"(dubbo|triple)-timeout\.(sync|future)|protobuf-unary\.deadline", TIMEOUT),
])
# A rule of the sidecar's that lets nothing of group `second` through.
ABORT = """apiVersion: raddle.io/v1
kind: Route
metadata: {name: no-second}
spec:
  to: {services: ["%s"]}
  rules:
  - name: abort%s
    fault: {abort: {status: 503}}
"""


class Suite:
    """One caller with its callees: how to start them, and what a sidecar must know of them."""

    def __init__(self, ready, serve, call, documents, abort, agree, refused):
        self.ready, self.serve, self.call = ready, serve, call
        self.documents, self.abort, self.agree, self.refused = documents, abort, agree, refused


def dubbo_servers(work, apps):
    dubbo_peers.start_java_server(work, "server", apps[0], 0)


def triple_servers(work, apps):
    dubbo_peers.start_java_server(work, "server", 0, apps[0])


def triple_servers_of_two_languages(work, apps):
    dubbo_peers.start_java_server(work, "server", 0, apps[0])
    dubbo_peers.start_python_server(work, "python-server", apps[1])


def dubbo_documents(inbound, dead):
    return [http_mesh.service(SHOP, inbound[:1], "dubbo"), http_mesh.service(SECOND, inbound[:1], "dubbo"),
            http_mesh.service(DEAD, [dead], "dubbo")]


def triple_documents(inbound, dead):
    return [*(http_mesh.service(name, inbound[:1], "grpc") for name in (TRIPLE_SHOP, PROTO)),
            http_mesh.service(PYTHON_SHOP, inbound[1:2] or [dead], "grpc"),
            http_mesh.service(TRIPLE_DEAD, [dead], "grpc")]


def call_dubbo_java(work, name, out, what, ports):
    cases = ["refused", "dubbo", ports[0]] if what == "refused" else ["dubbo", *ports]
    dubbo_peers.run_java_client(work, name, out, *cases)


def call_triple_java(work, name, out, what, ports):
    cases = ["refused", "tri", ports[0]] if what == "refused" else ["tri", ports[0]]
    dubbo_peers.run_java_client(work, name, out, *cases)


def call_node(work, name, out, what, ports):
    dubbo_peers.run_node_client(work, name, out, what, ports[0])


def call_dubbo_python(work, name, out, what, ports):
    dubbo_peers.run_dubbo_python_client(work, name, out, what, ports[0])


def call_triple_python(work, name, out, what, ports):
    dubbo_peers.run_triple_python_client(work, name, out, what, *ports)


def ready_node_and_java():
    dubbo_peers.ready_node()
    dubbo_peers.ready_java()


# What callers must be told, whichever way the sidecar says it: the reason's flag, and the rule that caused it.
STILL = {r"(\w+-)?unknown\.connection still serves": r"ok .*"}
DUBBO_REFUSED = {
    r"(dubbo-)?unknown\..*": r"throw .*raddle NC: no such service is known to the sidecar.*",
    r"(dubbo-)?dead\..*": r"throw .*raddle U[FH]: .*",
    r"(dubbo-)?aborted\..*": r"throw .*raddle FI: .*\(rule no-second.*\).*",
}
TRIPLE_REFUSED = {
    r"(triple-)?unknown\..*": r"throw .*(UNIMPLEMENTED|UNAVAILABLE).*raddle: .*\[N[CR]\].*",
    r"(triple-)?dead\..*": r"throw .*UNAVAILABLE.*raddle: .*\[U[FH]\].*",
    r"(triple-)?aborted\..*": r"throw .*UNAVAILABLE.*raddle: .*\(rule no-second/abort\) \[FI\].*",
}

DUBBO_ABORT = ABORT % (SECOND, "")
TRIPLE_ABORT = (ABORT % (f'{TRIPLE_SHOP}", "{PROTO}', "\n    when: {header: {tri-service-group: second}}"))
SUITES = {
    "dubbo-java": Suite(dubbo_peers.ready_java, dubbo_servers, call_dubbo_java, dubbo_documents, DUBBO_ABORT,
                        DUBBO, DUBBO_REFUSED),
    "dubbo-node": Suite(ready_node_and_java, dubbo_servers, call_node, dubbo_documents, DUBBO_ABORT,
                        DUBBO, DUBBO_REFUSED),
    "dubbo-python": Suite(dubbo_peers.ready_python, dubbo_servers, call_dubbo_python, dubbo_documents, DUBBO_ABORT,
                          DUBBO, DUBBO_REFUSED),
    "triple-java": Suite(dubbo_peers.ready_java, triple_servers, call_triple_java, triple_documents, TRIPLE_ABORT,
                         TRIPLE, TRIPLE_REFUSED),
    "triple-python": Suite(dubbo_peers.ready_python, triple_servers_of_two_languages, call_triple_python,
                           triple_documents, TRIPLE_ABORT, TRIPLE, TRIPLE_REFUSED),
}
PAIRINGS = tuple(SUITES)


def pairing(report, name, record):
    """Runs one suite: directly, through two sidecars, and refused by the caller's."""
    suite = SUITES[name]
    suite.ready()
    with Workspace(name) as work:
        apps, inbound = free_ports(2), free_ports(2)
        suite.serve(work, apps)
        direct = outcomes(work, suite, "direct", "cases", apps if "triple" in name else [apps[0], apps[0]])
        comparing.compare(report, f"{name} direct", comparing.recorded(name, direct, record), direct, DIRECT)
        try:
            mesh.binary()
        except Skip as reason:
            report.skip(f"{name} through the mesh", reason)
            return
        outbound = start_sidecars(work, suite, apps, inbound)
        meshed = outcomes(work, suite, "meshed", "cases", outbound)
        right = comparing.compare(report, f"{name} through the mesh", direct, meshed, suite.agree)
        for form in ("status", "readable"):
            outbound = start_caller(work, suite, f"caller-{form}", inbound, form, [suite.abort])
            seen = outcomes(work, suite, f"refused-{form}", "refused", outbound)
            right = demand(report, f"{name} refused, {form}", {**STILL, **suite.refused}, seen) and right
        if not right:
            work.print_logs()


def outcomes(work, suite, name, what, ports):
    """Runs the client; {case: outcome}."""
    out = work.folder / f"{name}.json"
    suite.call(work, f"client-{name}", out, what, ports)
    return json.loads(out.read_text())


def start_sidecars(work, suite, apps, inbound):
    """The callee's and the caller's; the ports to call."""
    admin = free_ports(1)[0]
    pairs = [http_mesh.forward(at, app) for at, app in zip(inbound, apps)]
    head = http_mesh.sidecar("callee-1", "callee", admin, pairs, log=work.folder / "callee-access.log")
    # One worker is one connection to the server: apache-dubbo for Python mixes up streams of two.
    http_mesh.start(work, "callee-sidecar", admin, head + "  workers: 1\n")
    return start_caller(work, suite, "caller", inbound, "status")


def start_caller(work, suite, name, inbound, form, extra=()):
    """A sidecar with a port for whatever names its service, and one for frames of `ShopService` left unread."""
    ports, (admin, dead) = free_ports(2), free_ports(2)
    listeners = [http_mesh.listen(ports[0])]
    if suite.documents is dubbo_documents:
        listeners.append(http_mesh.listen(ports[1], service=f'"{SHOP}"'))
    else:
        ports[1] = ports[0]
    head = http_mesh.sidecar(name, "shop", admin, outbound=listeners, log=work.folder / f"{name}-access.log")
    http_mesh.start(work, f"{name}-sidecar", admin, head + f"  replies: {form}\n",
                    *suite.documents(inbound, dead), *extra)
    return ports


def demand(report, title, patterns, seen):
    """Whether each outcome is what its pattern says; the first pattern that fits a case counts."""
    wanted = {case: next((outcome for pattern, outcome in patterns.items() if re.fullmatch(pattern, case)), "none")
              for case in seen}
    agree = comparing.Agreement(list(patterns.items()))
    return comparing.compare(report, title, wanted, seen, agree)


SERVERS = 3
THREADS = 8
SECONDS = 25
# How a call that may not be sent again may fail when its server is killed.
LOST = re.compile(r"raddle U[CF]:|raddle: .*\[U[CF]\]")
RETRY = ["balancer: roundRobin",
         "retry: {attempts: 5, on: [connectFailure, connectionLost], budget: 1.0, idempotentMethods: [echo]}"]


def disturbed(report, name, scheme):
    """The caller's configuration rewritten all the time, and one of three servers killed after the other.

    No call fails that rules declare idempotent; others may, if they were on the wire of a killed server, and then
    name the flag.
    """
    dubbo_peers.ready_java()
    mesh.binary()
    service, protocol = (SHOP, "dubbo") if scheme == "dubbo" else (TRIPLE_SHOP, "grpc")
    with Workspace(name) as work:
        apps = free_ports(SERVERS)

        def start(index, life=0):
            ports = (apps[index], 0) if scheme == "dubbo" else (0, apps[index])
            return dubbo_peers.start_java_server(work, f"server-{index}-{life}", *ports, await_ready=False)

        servers = [start(index) for index in range(SERVERS)]
        for server in servers:
            server.await_output("READY", 60)
        fleet = http_mesh.Fleet(work, apps, service, protocol, [http_mesh.policy("retry", [service], RETRY)])
        load = dubbo_peers.start_load(work, scheme, fleet.outbound, THREADS, SECONDS)
        rewrites = kills = 0
        back = killed_at = 0.0
        while load.alive():
            fleet.rewrite(rewrites)
            rewrites += 1
            time.sleep(0.1)  # The pace of the changes, not a wait for something.
            now = time.monotonic()
            if not back and (kills == 0 or "READY" in servers[(kills - 1) % SERVERS].output()):
                back = now
            # A second after the last kill, or when the server killed then is back: a JVM takes its time.
            if back and now >= max(killed_at + 1, back):
                victim = kills % SERVERS
                servers[victim].kill()
                wait_until(lambda: not accepts(apps[victim]), 5, "the killed server's port to close")
                kills += 1
                servers[victim] = start(victim, kills)
                killed_at, back = now, 0.0
        result = summary(load)
        judge(result, f"{rewrites} rewrites, {kills} kills")
        report.ok(name, f"{rewrites} rewrites, {kills} kills; {shown(result)}")


def summary(load):
    lines = load.finish(60).splitlines()
    return json.loads([line for line in lines if line.startswith("{")][-1])


def shown(result):
    return "; ".join(
        f"{kind}: {one['sent']} calls, {one['ok']} right, {one['wrong']} wrong, {one['failed']} failed, "
        f"{one['hung']} hung, slowest {one['max_ms']:.0f} ms {json.dumps(one['failures'])}"
        for kind, one in result.items())


def judge(result, what):
    for kind, one in result.items():
        strange = [text for text in one["failures"] if not LOST.search(text)]
        if one["wrong"] or one["hung"] or one["ok"] < 200 or strange or (kind == "idempotent" and one["failed"]):
            raise Failure(f"{what} cost calls: {shown(result)}")


DISTURBANCES = {
    "dubbo-reload": lambda report: disturbed(report, "dubbo-reload", "dubbo"),
    "triple-reload": lambda report: disturbed(report, "triple-reload", "tri"),
}
