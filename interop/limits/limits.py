"""What real clients see of each limit, protocol by protocol: exception or status, and whether it names the rule.

Clients call real servers through two sidecars, one of which has a rule that lets nothing pass: the callee's, or the
caller's for a breaker. Outcomes are compared with the recorded ones, and each must name its reason and its rule.
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import urllib.error

import comparing
import curl
import dubbo_peers
import dubbo_suites
import grpc_peers
import grpc_suites
import http_mesh
import http_peers
import mesh
import peers
from harness import Skip, Workspace, free_ports, wait_until

NAME = "limits"
RULE = "nothing-passes"
# What stands in every rule; each adds a line or two.
HEAD = "apiVersion: raddle.io/v1\nkind: {kind}\nmetadata: {{name: " + RULE + "}}\nspec:\n"
KINDS = {
    "RL": ("RateLimit", "  rate: 0\n"),
    "RL at once": ("RateLimit", "  concurrency: 0\n"),
    "HL": ("RateLimit", "  rate: 0\n  key: {by: callerIp}\n"),
    # Everything is load-test traffic, which goes first, and whole, as soon as the app is short.
    "AL": ("AdaptiveLimit", "  signal: {url: \"http://127.0.0.1:%d/load\"}\n  cores: 1\n"
                            "  priorities: [{priority: loadTest}]\n"),
    "CB": ("CircuitBreaker", "  state: open\n  per: service\n"),
}
# Replies to Bolt and Dubbo have two forms; that without words is the default.
FORMS = ("readable", "status")
ACTIVE_SECONDS = 40
PROTOCOLS = ("bolt", "dubbo", "tri", "grpc", "http")


def limits(report, _name, record):
    """The suite."""
    mesh.binary()
    clients, missing = ready()
    for why in missing:
        report.skip(f"{NAME}: a client", why)
    seen = {}
    with Workspace(NAME) as work, Busy() as busy:
        apps = start_apps(work)
        for kind in KINDS:
            for form in FORMS if kind == "RL" else FORMS[:1]:
                port = start(work, kind, form, apps, busy)
                title = kind if form == FORMS[0] else f"{kind} as {form}"
                for client, (protocol, call) in clients.items():
                    if form == "status" and protocol not in ("bolt", "dubbo"):
                        continue
                    label = f"{client}-{title}".replace(" ", "-")
                    for case, outcome in call(work, label, port).items():
                        seen[f"{client}.{title}: {case}"] = normalise(outcome)
        wanted = comparing.recorded(NAME, seen, record)
        known = {case: outcome for case, outcome in wanted.items() if case.split(".")[0] in clients}
        right = comparing.compare(report, NAME, known, seen, comparing.Agreement())
        right = named(report, seen) and right
        right = quota_is_seen(report, work, apps[-1]) and right
        if not right:
            work.print_logs()


def named(report, seen):
    """Whether every outcome says by its own words which limit it was, and which rule."""
    silent = []
    for case, outcome in seen.items():
        flag = re.search(r"\.(\w\w)[ :]", case)[1]
        kind = KINDS[flag][0]
        if not re.search(rf"\b{flag}\b", outcome) or f"{kind}/{RULE}" not in outcome:
            silent.append(f"{case}: {outcome}")
    # A bare status has no room for words.
    silent = [one for one in silent if " as status" not in one]
    if silent:
        report.fail(f"{NAME} named", "these do not say why:\n    " + "\n    ".join(silent))
        return False
    report.ok(f"{NAME} named", f"{len(seen)} refusals")
    return True


class Quota:
    """A cgroup of a fifth of a core, with a process in it that wants a whole one."""

    SHARE = 0.2

    def __init__(self):
        self.folders, self.burner = [], None
        name = f"raddle-interop-{os.getpid()}"
        root = pathlib.Path("/sys/fs/cgroup")
        control = root / "cgroup.subtree_control"
        if control.exists() and "cpu" in control.read_text().split():
            self.make(root / name)
            (self.folders[0] / "cpu.max").write_text("20000 100000")
            return
        for hierarchy in ("cpu", "cpuacct"):
            if (root / hierarchy).is_dir():
                self.make(root / hierarchy / name)
        if not self.folders:
            raise OSError("no hierarchy of cgroups with cpu is mounted")
        (self.folders[0] / "cpu.cfs_period_us").write_text("100000")
        (self.folders[0] / "cpu.cfs_quota_us").write_text("20000")

    def make(self, folder):
        if not folder.exists():
            folder.mkdir()
            self.folders.append(folder)

    def __enter__(self):
        self.burner = subprocess.Popen(["sh", "-c", "while :; do :; done"])
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(self.burner.pid))
        return self

    def __exit__(self, *_):
        self.burner.kill()
        self.burner.wait()
        for folder in self.folders:
            wait_until(lambda folder=folder: gone(folder), 5, f"{folder} to be empty")


def gone(folder):
    try:
        folder.rmdir()
        return True
    except OSError:
        return False


def quota_is_seen(report, work, app):
    """Whether a sidecar reads a real cgroup right: the cores of its quota, all of them used, and throttling."""
    name = f"{NAME} cgroup"
    try:
        quota = Quota()
    except OSError as why:
        report.skip(name, f"no cgroup can be made here: {why}")
        return True
    with quota:
        admin, inbound = free_ports(2)
        lines = f"  signal: {{cgroup: {quota.folders[0]}}}\n"
        document = http_mesh.sidecar("quota-1", "quota", admin, [http_mesh.forward(inbound, app)])
        http_mesh.start(work, "quota", admin, document, HEAD.format(kind="AdaptiveLimit") + lines)
        last = {}

        def read():
            sensing = json.loads(mesh.get(admin, "/limits")).get("adaptive", {}).get("sensing") or {}
            last.update(sensing)
            sample = sensing.get("sample") or {}
            share = sample.get("cpu", 0) / Quota.SHARE
            return sample.get("cores") == Quota.SHARE and 0.7 < share < 1.3 and (sample.get("throttled") or 0) > 0
        try:
            wait_until(read, 30, "the quota to be seen")
        except Exception as why:  # whatever kind of failure it is, what was read tells why
            report.fail(name, f"{why}; it reads {last}")
            return False
        sample = last["sample"]
        report.ok(name, f"{sample['cpu']:.3f} of {sample['cores']} cores, throttled in {sample['throttled']:.0%} of the "
                        f"periods; {last['from']}")
        return True


def normalise(outcome):
    """Times to wait and addresses differ."""
    return re.sub(r"127\.0\.0\.1:\d+", "ADDR", re.sub(r"retry-after: [\d.]+", "retry-after: N", outcome))


class Busy:
    """An app's word for its load: more than everything."""

    def __enter__(self):
        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = b'{"cpu": 1.0, "memory": 0.5}'
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def rule(kind, busy):
    name, lines = KINDS[kind]
    return HEAD.format(kind=name) + (lines % busy.port if "%d" in lines else lines)


def start_apps(work):
    """What is called if something passes; the ports, in the order of PROTOCOLS."""
    bolt, dubbo, triple, grpc, http = free_ports(len(PROTOCOLS))
    peers.start_java_server(work, "bolt-app", bolt)
    dubbo_peers.start_java_server(work, "dubbo-app", dubbo, triple)
    grpc_peers.start_server(work, "py", "grpc-app", grpc)
    http_peers.start_origin(work, "http-app", http)
    return bolt, dubbo, triple, grpc, http


def start(work, kind, form, apps, busy):
    """The callee's sidecar and the caller's, one of them with the rule; the port to call."""
    inner, outer, outbound, *inbound = free_ports(3 + len(PROTOCOLS))
    name = f"{kind}-{form}".replace(" ", "-").lower()
    callee = http_mesh.sidecar("callee-1", "callee", inner, [http_mesh.forward(*pair) for pair in zip(inbound, apps)],
                               log=work.folder / f"{name}-callee-access.log")
    here, there = ([rule(kind, busy)], []) if kind == "CB" else ([], [rule(kind, busy)])
    http_mesh.start(work, f"{name}-callee", inner, callee, *there)
    at = dict(zip(PROTOCOLS, inbound))
    caller = http_mesh.sidecar("caller-1", "shop", outer, outbound=[http_mesh.listen(outbound)],
                               log=work.folder / f"{name}-caller-access.log")
    http_mesh.start(work, f"{name}-caller", outer, caller + f"  replies: {form}\n",
                    *(http_mesh.service(one, [at["bolt"]], "bolt") for one in mesh.SERVICES[::2]),
                    http_mesh.service(dubbo_suites.SHOP, [at["dubbo"]], "dubbo"),
                    http_mesh.service(dubbo_suites.TRIPLE_SHOP, [at["tri"]], "grpc"),
                    http_mesh.service(grpc_suites.ECHO, [at["grpc"]], "grpc"),
                    http_mesh.service(curl.HOST, [at["http"]], "http"), *here)
    if kind == "AL":
        wait_until(lambda: active(inner), ACTIVE_SECONDS, "the adaptive limit to become active")
    return outbound


def active(admin):
    """Whether the sidecar says that it holds something."""
    try:
        return bool(re.search(r'"active": ?true', mesh.get(admin, "/limits")))
    except (urllib.error.URLError, OSError):
        return False


def ready():
    """Clients that can be had, {name: (protocol, how to call)}; and why one cannot."""
    for prepare in (peers.ready_java, peers.ready_node, dubbo_peers.ready_java, dubbo_peers.ready_node,
                    grpc_peers.ready_python, grpc_peers.ready_node, lambda: http_peers.ready("curl")):
        prepare()
    clients = {
        "sofa-java": ("bolt", sofa_java), "sofa-node": ("bolt", sofa_node), "dubbo-java": ("dubbo", dubbo_java),
        "dubbo-node": ("dubbo", dubbo_node), "triple-java": ("tri", triple_java), "grpc-python": ("grpc", grpc_python),
        "grpc-node": ("grpc", grpc_node), "curl-http1": ("http", curl_http1), "curl-http2": ("http", curl_http2),
    }
    try:
        dubbo_peers.ready_python()
    except Skip as why:
        return clients, [f"dubbo-python: {why}"]
    return {**clients, "dubbo-python": ("dubbo", dubbo_python)}, []


# `CASE | 12 ms | OUTCOME`
PRINTED = re.compile(r"^(\w+):x \| \d+ ms \| (.*)$", re.M)


def printed(process, seconds):
    return dict(PRINTED.findall(process.finish(seconds)))


def sofa_java(work, label, port):
    kinds = ("sync:x", "future:x", "callback:x", "protobuf:x")
    return printed(work.start(label, peers.java("client.Probe", f"127.0.0.1:{port}", *kinds)), 60)


def sofa_node(work, label, port):
    return printed(work.start(label, ["node", peers.NODE / "src/probe.js", port, "hessian:x", "protobuf:x"]), 30)


def written(work, label, run):
    """What a client wrote into its file."""
    out = work.folder / f"{label}.json"
    run(out)
    return json.loads(out.read_text())


def dubbo_java(work, label, port):
    address = f"{dubbo_peers.HOST}:{port}"
    return written(work, label, lambda out: dubbo_peers.run_java_client(work, label, out, "probe", address, "echo"))


def triple_java(work, label, port):
    address = f"{dubbo_peers.HOST}:{port}"
    return written(work, label, lambda out: dubbo_peers.run_java_client(work, label, out, "probe-tri", address, "echo"))


def dubbo_node(work, label, port):
    command = ["node", dubbo_peers.NODE / "src/client.js"]
    return written(work, label, lambda out: work.start(label, [*command, out, "probe", port, "echo"]).finish(30))


def dubbo_python(work, label, port):
    def run(out):
        work.start(label, dubbo_peers.python("dubbo_client.py", out, "probe", port, "echo"),
                   dubbo_peers.PYTHON_SETTINGS).finish(30)
    return written(work, label, run)


def grpc_call(language):
    def call(work, label, port):
        def run(out):
            target = f"127.0.0.1:{port}"
            work.start(label, grpc_peers.command(language, "client", out, target, target, "unary.echo"),
                       grpc_peers.SETTINGS).finish(60)
        return written(work, label, run)
    return call


grpc_python, grpc_node = grpc_call("py"), grpc_call("js")


def curl_in(version):
    def call(work, _label, port):
        reply = curl.Curl(work, None, port, version).run("/order")
        headers = [f"{name}: {reply.header(name)}" for name in ("x-raddle-reason", "x-raddle-rule", "retry-after")
                   if reply.header(name)]
        body = reply.body.decode(errors="replace").strip()
        return {"GET": " | ".join([f"status {reply.status()}", *headers, body])}
    return call


curl_http1, curl_http2 = curl_in(1), curl_in(2)
COMPARISONS = {NAME: limits}
