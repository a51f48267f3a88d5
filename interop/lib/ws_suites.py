"""WebSocket: every case directly, then through two sidecars, and a connection that outlives reloads."""

import json

import comparing
import http_mesh
import http_peers
import mesh
from harness import Failure, Skip, Workspace, free_ports, wait_until

PAIRINGS = ("ws-py-py", "ws-js-js", "ws-py-js", "ws-js-py")
HOLD_S = 4
# How the end of a connection is seen that was simply cut depends on who notices: by name, it is 1006 for all.
THROUGH_MESH = comparing.Agreement()


def command(language, program, *arguments):
    if language == "py":
        return [http_peers.PYTHON, http_peers.FOLDER / f"{program}.py", *arguments]
    return ["node", http_peers.FOLDER / "src" / f"{program}.js", *arguments]


def client(work, language, name, port, *mode):
    """Starts the client on a port; its results are in `NAME.json`."""
    out = work.folder / f"{name}.json"
    # The URL's host decides the service; its address is the port's.
    return work.start(name, command(language, "ws_client", out, f"ws://localhost:{port}", *mode)), out


def outcomes(work, language, name, port):
    running, out = client(work, language, name, port)
    running.finish(100)
    return json.loads(out.read_text())


def pairing(report, name, record):
    """Runs one pairing, such as `ws-py-js` (caller Python, callee Node)."""
    _, caller, callee = name.split("-")
    if "py" in (caller, callee):
        http_peers.ready()
    if "js" in (caller, callee):
        http_peers.ready_node()
    with Workspace(name) as work:
        app, at, outbound, callee_admin, caller_admin = free_ports(5)
        server = work.start("server", command(callee, "ws_server", "server", app))
        server.await_output("READY server", 15)
        direct = outcomes(work, caller, "direct", app)
        comparing.compare(report, f"{name} direct", comparing.recorded(name, direct, record), direct,
                          comparing.Agreement())
        try:
            mesh.binary()
        except Skip as reason:
            report.skip(f"{name} through the mesh", reason)
            return
        http_mesh.start(work, "callee", callee_admin, http_mesh.sidecar(
            "callee-1", "callee", callee_admin, [http_mesh.forward(at, app)], log=work.folder / "callee-access.log"))

        def documents(number):
            return (http_mesh.sidecar("caller-1", "caller", caller_admin, outbound=[http_mesh.listen(outbound)],
                                      log=work.folder / "caller-access.log"),
                    http_mesh.service("localhost", [at], weights=[number + 1]),
                    *([http_mesh.service(f"extra-{number}.test", [at])] if number % 2 else []))

        config = http_mesh.start(work, "caller", caller_admin, *documents(0))
        meshed = outcomes(work, caller, "meshed", outbound)
        if not comparing.compare(report, f"{name} through the mesh", direct, meshed, THROUGH_MESH):
            work.print_logs()
        held(report, name, work, caller, outbound,
             lambda number: mesh.write(config, mesh.document(*documents(number))))


def held(report, name, work, caller, port, rewrite):
    """A connection that is open during many changes of configuration goes on, and closes as it should."""
    running, out = client(work, caller, "hold", port, "hold", HOLD_S)
    running.await_output("STARTED", 15)
    rewrites = 0
    while running.alive():
        rewrite(rewrites + 1)
        rewrites += 1
        try:
            # The pace of the changes; shorter when the client is done.
            wait_until(lambda: not running.alive(), 0.15, "the end")
        except Failure:
            pass
    running.finish(1)
    result = json.loads(out.read_text())
    if result["right"] != result["sent"] or result["sent"] < 20 or result["ended"] != [1000, [1000, ""]]:
        raise Failure(f"{rewrites} rewrites disturbed a connection: {result}")
    report.ok(f"{name} reload", f"{rewrites} rewrites; {result['sent']} messages on one connection, all echoed; closed by 1000")


COMPARISONS = {name: pairing for name in PAIRINGS}
