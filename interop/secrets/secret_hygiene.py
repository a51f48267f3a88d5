"""Private keys and tokens are nowhere but in memory: a mesh under load with TLS, then a search for every form a key
could be written in, in everything that sidecars and control plane show, log, write and are started with; and no core
dump has them either."""

import base64
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc_peers
import joined
import mesh
import parties
from harness import Failure, Skip, Workspace, free_ports, need, wait_until

FETCH = Path(__file__).resolve().parent / "fetch.py"
NOBODY = 65534
CALLS = 300


def key_of(socket_path):
    """The key a socket hands on: its PEM text."""
    done = subprocess.run([grpc_peers.PYTHON / ".venv/bin/python", FETCH, socket_path], capture_output=True, text=True,
                          timeout=30, check=False)
    found = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]+-----END [A-Z ]*PRIVATE KEY-----", done.stdout)
    if not found:
        raise Failure(f"{socket_path} gave no key: {done.stderr[-800:]}")
    return found.group(0)


def forms(pem):
    """Every form in which a key could have been written; (name, bytes)."""
    lines = [line for line in pem.splitlines() if line and not line.startswith("-")]
    der = base64.b64decode("".join(lines))
    # SEC1 in PKCS#8: INTEGER 1, then the scalar as OCTET STRING of 32.
    at = der.find(b"\x02\x01\x01\x04\x20")
    if at < 0:
        raise Failure("the key is not an EC key on P-256, which this search is written for")
    scalar = der[at + 5:at + 37]
    needles = [("PEM line", line.encode()) for line in lines if len(line) > 30]
    for what, data in (("DER", der), ("scalar", scalar)):
        text = data.hex()
        needles += [(what, data), (f"{what}, hex", text.encode()), (f"{what}, HEX", text.upper().encode()),
                    (f"{what}, hex with colons", ":".join(re.findall("..", text)).encode()),
                    (f"{what}, decimal", ", ".join(map(str, data)).encode()),
                    (f"{what}, escaped", "".join(f"\\x{b:02x}" for b in data).encode()),
                    (f"{what}, base64", base64.b64encode(data).rstrip(b"=")),
                    (f"{what}, base64url", base64.urlsafe_b64encode(data).rstrip(b"="))]
    return needles


class Haystack:
    """Everything that is searched, with names."""

    def __init__(self):
        self.parts = []

    def add(self, name, data):
        self.parts.append((name, data if isinstance(data, bytes) else data.encode()))

    def find(self, needles):
        """(what, where) of every hit."""
        return [(what, name) for name, data in self.parts for what, needle in needles if needle in data]

    def size(self):
        return sum(len(data) for _, data in self.parts)


def load(port, ended, failed):
    """Calls one after the other, each on a connection of its own now and then."""
    count = 0
    while not ended.is_set() or count < CALLS:
        status, _, body = joined.request(port, f"/{count}")
        if status != 200:
            failed.append((status, body[:200]))
            return
        count += 1


def admin_pages(hay, sidecar):
    """Every page that the index names, and what is refused, too."""
    index = sidecar.page("/")
    paths = set(re.findall(r"(/[a-z][a-z/-]*)", index)) | {"/", "/config", "/mesh", "/stats", "/connections"}
    for path in sorted(paths):
        try:
            hay.add(f"{sidecar.name} {path}", sidecar.page(path))
        except urllib.error.HTTPError as error:
            hay.add(f"{sidecar.name} {path}", error.read())
    return len(paths)


def api_pages(hay, plane):
    """Every GET of the API's own description that needs no name, and some that do."""
    paths = [path for path, methods in plane.get("/openapi.json")["paths"].items()
             if "get" in methods and "{" not in path and not path.endswith("/watch")]
    paths += ["/v1/sidecars/pay-1", "/v1/explain/sidecars/pay-1", f"/v1/services/{parties.HOST}", "/v1/apps/pay",
              f"/v1/rules/LinkEncryption/{parties.RULE}"]
    for path in paths:
        asked = urllib.request.Request(f"http://127.0.0.1:{plane.rest}{path}", headers=plane.headers)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                hay.add(f"API {path}", answer.read())
        except urllib.error.HTTPError as error:
            hay.add(f"API {path}", error.read())
    for command in (["status"], ["get", "sidecars"], ["get", "sidecar/pay-1"], ["get", "rules"], ["ca", "status"],
                    ["ca", "signed"], ["token", "list"]):
        hay.add(f"raddle {' '.join(command)} -o json", plane.cli(*command, "-o", "json", code=None))
    return len(paths)


def process_pages(hay, work):
    for process in work.processes:
        for name in ("environ", "cmdline", "status", "comm"):
            hay.add(f"/proc/PID/{name} of {process.name}", Path(f"/proc/{process.popen.pid}/{name}").read_bytes())


def files(hay, folder, skipped):
    count = 0
    for path in folder.rglob("*"):
        if path.is_file() and path not in skipped:
            hay.add(f"file {path.relative_to(folder)}", path.read_bytes())
            count += 1
    return count


def sidecar(work, plane, name, app, **more):
    """One that logs what it can, keeps a cache, and hands its certificate on."""
    admin, = free_ports(1)
    sds = work.folder / f"{name}.sock"
    joins = plane.joins(app, sds=sds).rstrip("}") + f"}}, cache: {work.folder / f'{name}-cache'}}}"
    config = work.folder / f"{name}.yaml"
    log = work.folder / f"{name}-access.json"
    mesh.write(config, parties.sidecar(name, app, admin, log=log, more=[joins, *more.pop("more", [])], **more))
    one = object.__new__(parties.Sidecar)
    one.name, one.admin, one.log, one.sds = name, admin, log, sds
    one.process = work.start(name, [mesh.binary(), "proxy", "--config", config, "--log", "debug"])
    wait_until(lambda: mesh.ready(admin) or not one.process.alive(), 20, f"{name} to be ready")
    if not one.process.alive():
        one.process.finish(1)
    wait_until(sds.exists, 10, f"{name}'s socket")
    return one


def search(report):
    with Workspace("secrets") as work, parties.App() as app:
        grpc_peers.ready_python()
        plane = joined.Plane(work, extra=["--log", "debug"])
        inbound, outbound = free_ports(2)
        pay = sidecar(work, plane, "pay-1", "pay", inbound=[f"listen: 127.0.0.1:{inbound}, forward: 127.0.0.1:{app.port}"],
                      more=["publish: {services: [{name: \"%s\", protocol: http, port: %d}]}" % (parties.HOST, inbound)])
        shop = sidecar(work, plane, "shop-1", "shop", outbound=[f"listen: 127.0.0.1:{outbound}"])
        keys = [key_of(one.sds) for one in (pay, shop)]
        needles = [(f"{name}'s key, {what}", needle) for name, key in zip(("pay", "shop"), keys)
                   for what, needle in forms(key)]
        tokens = list(plane.tokens.values()) + [plane.admin_token]
        needles += [(f"token {path.name}", path.read_bytes().strip()) for path in tokens]
        ended, failed = threading.Event(), []
        caller = threading.Thread(target=load, args=(outbound, ended, failed))
        caller.start()
        plane.apply(parties.encryption("permissive", "scope: {apps: [pay]}"))
        wait_until(lambda: pay.counted("raddle_tls_handshakes_total", outcome="begun") > 0, 20, "a link to be encrypted")
        # A wrong token and a caller without a certificate: what is refused must not quote what it was given.
        plane.cli("status", code=None)
        with socket.create_connection(("127.0.0.1", inbound), 5) as one:
            one.sendall(b"\x16\x03\x01\x00\x05nonsense")
        hay = Haystack()
        pages = sum(admin_pages(hay, one) for one in (pay, shop))
        answers = api_pages(hay, plane)
        ended.set()
        caller.join()
        if failed:
            raise Failure(f"a call failed: {failed}")
        process_pages(hay, work)
        count = files(hay, work.folder, set(tokens))
        if hits := hay.find(needles):
            raise Failure("; ".join(f"{what} is in {where}" for what, where in hits[:20]))
        sane(hay, work, plane, keys)
        report.ok("secrets search", f"{len(needles)} forms of 2 keys and {len(tokens)} tokens in none of {pages} admin "
                                    f"pages, {answers} answers of the API, {len(work.processes)} processes' "
                                    f"arguments and environments, {count} files; {hay.size() >> 10} KiB")


def sane(hay, work, plane, keys):
    """The search would have found them: in their token files, and a key written on purpose."""
    proof = Haystack()
    files(proof, work.folder, set())
    if not proof.find([("token", plane.admin_token.read_bytes().strip())]):
        raise Failure("the search does not find a token in its own file")
    proof.add("planted", f"debug: {keys[0]!r}".encode())
    if not proof.find(forms(keys[0])):
        raise Failure("the search does not find a key that was written")
    if not any(b"certificate" in data for name, data in hay.parts if name.startswith("file pay-1.log")):
        raise Failure("the log that was searched says nothing of certificates")


def core_of(command, ready, folder):
    """Starts a program as nobody, kills it with SIGABRT; whether its memory files were root's, and whether it dumped."""
    def limits():
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    child = subprocess.Popen([str(part) for part in command], cwd=folder, user=NOBODY, group=NOBODY, extra_groups=[],
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             preexec_fn=limits, start_new_session=True)
    try:
        wait_until(lambda: ready() or child.poll() is not None, 20, f"{command[0]} to run")
        time.sleep(0.1)  # Those without a readiness of their own: their first instructions.
        hidden = os.stat(f"/proc/{child.pid}/mem").st_uid == 0
        # As a user's own debugger would: gcore begins with this.
        peek = subprocess.run(["cat", f"/proc/{child.pid}/environ"], user=NOBODY, group=NOBODY, extra_groups=[],
                              capture_output=True, check=False).returncode != 0
        # Not SIGSEGV: from outside that is none to the Rust runtime, which goes on.
        os.kill(child.pid, signal.SIGABRT)
        _, status = os.waitpid(child.pid, 0)
        return hidden, peek, os.WCOREDUMP(status)
    finally:
        try:
            os.kill(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def cores(report):
    """What the kernel would write of a process that crashes, and what its own user may read of it."""
    if os.geteuid() != 0:
        raise Skip("needs root to run processes as nobody")
    need("cat", "sleep")
    with Workspace("secrets-core") as work:
        folder = work.folder / "core"
        folder.mkdir(mode=0o777)
        os.chmod(folder, 0o777)
        os.chmod(work.folder, 0o755)
        binary = folder / "raddle"
        binary.write_bytes(mesh.binary().read_bytes())
        binary.chmod(0o755)
        plain = core_of(["sleep", "60"], lambda: True, folder)
        if plain[:2] != (False, False):
            raise Failure(f"a process without protection looks protected: {plain}")
        said = []
        grpc, rest, tls, admin, listen = free_ports(5)
        config = folder / "shop.yaml"
        mesh.write(config, parties.sidecar("shop-1", "shop", admin, outbound=[f"listen: 127.0.0.1:{listen}"]))
        config.chmod(0o644)
        for what, command, port in (
                ("sidecar", [binary, "proxy", "--config", config], admin),
                ("control plane", [binary, "control", "--store", folder / "control.db", "--grpc-listen",
                                   f"127.0.0.1:{grpc}", "--tls-listen", f"127.0.0.1:{tls}", "--rest-listen",
                                   f"127.0.0.1:{rest}"], rest)):
            hidden, peek, dumped = core_of(command, lambda port=port: answers(port), folder)
            if not (hidden and peek) or dumped:
                raise Failure(f"the {what}'s memory can be had: files are root's: {hidden}, its user is refused: {peek}, "
                              f"dumped core: {dumped}")
            said.append(what)
        dumps = "an unprotected process beside them does dump core" if plain[2] else "this machine dumps no core at all"
        report.ok("secrets cores", f"{' and '.join(said)}: /proc/PID is root's, their own user may not read it, SIGABRT "
                                   f"leaves no core ({dumps})")


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def run(report):
    search(report)
    cores(report)


SUITES = {"secrets": run}
