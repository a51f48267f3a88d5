"""wrk and h2load through two sidecars, while the configuration is rewritten and while servers are killed."""

import json
import re
import time

import grpc_peers
import http_mesh
import http_peers
import mesh
from curl import HOST
from harness import Failure, Workspace, accepts, free_ports, wait_until

SERVERS = 3
REWRITE_EVERY_S = 0.15
ECHO = "raddle.interop.Echo"
# Replies that cannot be sent again may be lost with their server, and say so.
LOST = {"503 UC", "503 UF"}
RETRY = ["retry: {attempts: 5, on: [connectFailure, connectionLost, serverError], budget: 1.0}"]
# A gRPC message: not compressed, two bytes long: Ask(text="").
FRAME = bytes([0, 0, 0, 0, 2, 10, 0])


class Web:
    """nginx three times, and the sidecars before them."""

    def __init__(self, work, name, http2=False, extra=()):
        self.work, self.name, self.http2 = work, name, http2
        self.apps = free_ports(SERVERS)
        self.running = [self.start(index) for index in range(SERVERS)]
        self.fleet = http_mesh.Fleet(work, self.apps, HOST, extra=extra)

    def start(self, index, life=0):
        server = http_peers.start_nginx(self.work, f"nginx-{index}", self.apps[index], self.http2, life)
        wait_until(lambda: accepts(self.apps[index]) or not server.alive(), 10, "nginx to listen")
        return server


def wrk(work, name, port, seconds, method="GET", connections=32):
    return work.start(name, ["wrk", "-t", "1", "-c", connections, "-d", f"{seconds}s", "--timeout", "8s",
                             "-H", f"Host: {HOST}", "-s", http_peers.FOLDER / "load.lua",
                             f"http://127.0.0.1:{port}/", "--", method])


def h2load(work, name, port, seconds, *options, path="/"):
    return work.start(name, ["h2load", "-t", "1", "-c", "4", "-m", "8", "-D", str(seconds), "-N", "10s",
                             f"--connect-to=127.0.0.1:{port}", *options, f"http://{HOST}{path}"])


def wrk_result(load):
    """({kind: count}, errors of sockets)."""
    text = load.finish(60)
    kinds = {kind: int(count) for count, kind in re.findall(r"^REPLIES (\d+) (.*)$", text, re.MULTILINE)}
    errors = sum(int(number) for number in re.findall(r"\d+", re.search(r"^ERRORS .*$", text, re.MULTILINE)[0]))
    return kinds, errors


def h2load_result(load):
    """(replies with 2xx, everything that went otherwise)."""
    text = load.finish(60)
    done, succeeded, failed, errored, timeout = map(int, re.search(
        r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text).groups())
    status = [int(number) for number in re.search(
        r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text).groups()]
    del done
    return min(succeeded, status[0]), failed + errored + timeout + sum(status[1:])


def rejected(*admins):
    """Rejections by flag, of sidecars; without those whose caller was gone, as load is at its end."""
    flags = {}
    for admin in admins:
        totals = json.loads(mesh.get(admin, "/stats"))["totals"]
        for side in ("inbound", "outbound"):
            for flag, count in totals[side]["rejected"].items():
                flags[flag] = flags.get(flag, 0) + count
    flags.pop("DC", None)
    return flags


def rewriting(fleet, load):
    """Rewrites the caller's configuration while the load runs; how often."""
    number = 0
    while load.alive():
        fleet.rewrite(number)
        number += 1
        time.sleep(REWRITE_EVERY_S)  # The pace of the changes, not a wait for something.
    return number


def killing(web, load):
    """Kills one server a second while the load runs, and starts it again; how often."""
    kills = 0
    while load.alive():
        victim = kills % SERVERS
        began = time.monotonic()
        web.running[victim].kill()
        wait_until(lambda: not accepts(web.apps[victim]), 5, "the killed server's port to close")
        kills += 1
        time.sleep(0.3)  # How long it is away, not a wait for something.
        web.running[victim] = web.start(victim, kills)
        time.sleep(max(0.0, began + 1 - time.monotonic()))  # The pace of the kills.
    return kills


def reload(report):
    """Load in three kinds while the configuration changes: not one failure."""
    http_peers.ready("wrk", "h2load", "nginx")
    grpc_peers.ready_node()
    mesh.binary()
    with Workspace("http-reload") as work:
        web = Web(work, "web")
        load = wrk(work, "wrk", web.fleet.outbound, 8)
        rewrites = rewriting(web.fleet, load)
        kinds, errors = wrk_result(load)
        flags = rejected(web.fleet.caller_admin, web.fleet.callee_admin)
        if set(kinds) != {"200 none"} or errors or flags or kinds["200 none"] < 1000:
            raise Failure(f"{rewrites} rewrites cost requests: {kinds}, {errors} socket errors, rejected {flags}")
        report.ok("http-reload wrk", f"{rewrites} rewrites; {kinds['200 none']} replies, all 200; 0 errors")
    with Workspace("http-reload") as work:
        web = Web(work, "web", http2=True)
        h2_reload(report, "h2load", web.fleet, h2load(work, "h2load", web.fleet.outbound, 8))
    with Workspace("http-reload") as work:
        apps = free_ports(SERVERS)
        for index, app in enumerate(apps):
            grpc_peers.start_server(work, "js", f"server-{index}", app)
        fleet = http_mesh.Fleet(work, apps, ECHO, "grpc")
        frame = work.folder / "frame"
        frame.write_bytes(FRAME)
        load = h2load(work, "h2load", fleet.outbound, 8, "-d", str(frame), "-H", "content-type: application/grpc",
                      "-H", "te: trailers", path=f"/{ECHO}/Unary")
        h2_reload(report, "h2load grpc", fleet, load)


def h2_reload(report, name, fleet, load):
    rewrites = rewriting(fleet, load)
    right, wrong = h2load_result(load)
    # gRPC's own status is in the trailers, which h2load does not read: the sidecars' counters say it.
    flags = rejected(fleet.caller_admin, fleet.callee_admin)
    if wrong or flags or right < 300:
        raise Failure(f"{name}: {rewrites} rewrites cost requests: {right} with 2xx, {wrong} otherwise, rejected {flags}")
    report.ok(f"http-reload {name}", f"{rewrites} rewrites; {right} replies, all 2xx; 0 errors")


def kill(report):
    """One of three servers killed every second: no GET fails; what else fails says why."""
    http_peers.ready("wrk", "h2load", "nginx")
    mesh.binary()
    retry = http_mesh.policy("retry", [HOST], RETRY)
    with Workspace("http-kill") as work:
        web = Web(work, "web", extra=[retry])
        # GETs may be sent again after anything, POSTs only if they certainly were not run.
        unsafe = wrk(work, "wrk-post", web.fleet.outbound, 9, "POST", 8)
        load = wrk(work, "wrk", web.fleet.outbound, 9)
        kills = killing(web, load)
        kinds, errors = wrk_result(load)
        posts, post_errors = wrk_result(unsafe)
        if set(kinds) != {"200 none"} or errors or kinds["200 none"] < 500:
            raise Failure(f"{kills} kills cost GETs: {kinds}, {errors} socket errors; POST {posts}")
        if set(posts) - {"200 none"} - LOST or post_errors:
            raise Failure(f"{kills} kills; POSTs failed without a flag: {posts}, {post_errors} socket errors")
        failed = logged(web.fleet.log, posts)
        report.ok("http-kill wrk", f"{kills} kills; {kinds['200 none']} GETs, all 200; POSTs {posts}; {failed}")
    with Workspace("http-kill") as work:
        web = Web(work, "web", http2=True, extra=[retry])
        load = h2load(work, "h2load", web.fleet.outbound, 9)
        kills = killing(web, load)
        right, wrong = h2load_result(load)
        if wrong or right < 500:
            flags = rejected(web.fleet.caller_admin, web.fleet.callee_admin)
            raise Failure(f"{kills} kills cost GETs: {right} with 2xx, {wrong} otherwise, rejected {flags}")
        report.ok("http-kill h2load", f"{kills} kills; {right} GETs, all 2xx; 0 errors")


def logged(path, posts):
    """Every failed reply has a line with its flag in the access log."""
    wanted = sum(count for kind, count in posts.items() if kind != "200 none")

    def lines():
        entries = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [entry for entry in entries if entry.get("flag") in ("UC", "UF")]

    try:
        wait_until(lambda: len(lines()) >= wanted, 5, "the access log")
    except Failure:
        raise Failure(f"{wanted} requests failed, the access log has {len(lines())} of them") from None
    return f"{wanted} failures in the access log with their flag"


DISTURBANCES = {"http-reload": reload, "http-kill": kill}
