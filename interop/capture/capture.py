"""An app that knows nothing of the mesh, captured: by REDIRECT and TPROXY, IPv4 and IPv6, with nft and both
variants of iptables. Needs root, iproute2, iptables, nftables and util-linux.

For each mode two fresh machines (namespaces) and one sidecar, which runs as a user of its own; for each tool
the rules are installed twice, used, and removed, after which the tables must be as before.
"""

import difflib
import http.client
import json
import os
import shutil
import threading
import time
import urllib.error
import urllib.request

import mesh
from harness import Failure, Skip, Workspace, need, wait_until
from namespaces import ADDRESS, APP, FAR, Namespaces, in_ns, tables

SIDECAR_USER = 1337
TOOLS = ("nft", "iptables-nft", "iptables-legacy")
OUTBOUND, INBOUND, ADMIN = 15001, 15006, 15000
# On the far machine.
KNOWN, UNKNOWN, GREETS, GREETS_LATE, WEB, BOLT, BOLT_UNKNOWN = 7000, 7001, 3306, 3307, 8080, 12200, 12201
NAMED_WEB = 8081
SCANNED, SCANS = 20000, 2500
# On the app's machine.
APP_PORT = 9000
# So long that whoever is served sooner was not waited for.
DETECT_S = 2.0
AT_ONCE_S = 1.0


def echo(one):
    while data := one.recv(65536):
        one.sendall(data)


def greet(one):
    one.sendall(b"hello, who is there?\n")
    echo(one)


def web(one):
    request = b""
    while b"\r\n\r\n" not in request:
        piece = one.recv(65536)
        if not piece:
            return
        request += piece
    body = request.split(b" ")[1]
    one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body))


def named_web(one):
    one.recv(65536)
    one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nnamed")


def who(one):
    """Says who called."""
    one.recv(4)
    one.sendall(one.getpeername()[0].encode())


def config(mode, unknown="allow"):
    """A sidecar that captures both families and knows two services of the far machine."""
    ports = f"ports: {{{GREETS}: tcp}}"
    lines = [
        "apiVersion: raddle.io/v1", "kind: Sidecar", "metadata: {name: shop-1}", "spec:", "  app: shop",
        f"  admin: 127.0.0.1:{ADMIN}", f"  limits: {{detectTimeout: {DETECT_S}s}}", "  outbound:",
    ]
    for any_address in ("0.0.0.0", "[::]"):
        lines.append(f'  - {{listen: "{any_address}:{OUTBOUND}", capture: {mode}, unknownDestinations: {unknown}, '
                     f"{ports}}}")
    lines.append("  inbound:")
    lines += [f'  - {{listen: "{a}:{INBOUND}", capture: {mode}}}' for a in ("0.0.0.0", "[::]")]
    documents = ["\n".join(lines) + "\n"]
    for name, protocol, port in (("ledger", "tcp", KNOWN), ("bench.Echo:1.0", "bolt", BOLT)):
        endpoints = [f'{{address: "{at}:{port}"}}' for at in (ADDRESS[4][FAR], f"[{ADDRESS[6][FAR]}]")]
        documents.append(f'apiVersion: raddle.io/v1\nkind: Service\nmetadata: {{name: "{name}"}}\n'
                         f"spec: {{app: far, protocol: {protocol}, endpoints: [{', '.join(endpoints)}]}}\n")
    endpoint = f'{{address: "{ADDRESS[4][FAR]}:{NAMED_WEB}"}}'
    documents.append("apiVersion: raddle.io/v1\nkind: Service\nmetadata: {name: prices}\n"
                     f"spec: {{app: far, protocol: http, hosts: [prices.shop], endpoints: [{endpoint}]}}\n")
    return mesh.document(*documents)


class Machine:
    """The app's machine with a sidecar on it."""

    def __init__(self, work, spaces, mode):
        self.work, self.spaces, self.mode = work, spaces, mode
        # The sidecar's user must be able to read it, wherever the repository is.
        self.binary = work.folder / "raddle"
        if not self.binary.exists():
            shutil.copy(mesh.binary(), self.binary)
        self.binary.chmod(0o755)
        work.folder.chmod(0o755)
        self.file = work.folder / f"{mode}.yaml"
        mesh.write(self.file, config(mode))

    def start(self):
        rights = ["--ambient-caps", "+net_admin", "--inh-caps", "+net_admin"] if self.mode == "tproxy" else []
        user = str(SIDECAR_USER)
        self.sidecar = self.work.start(f"sidecar-{self.mode}", [
            "ip", "netns", "exec", APP, "setpriv", "--reuid", user, "--regid", user, "--clear-groups", *rights,
            self.binary, "proxy", "--config", self.file])
        wait_until(lambda: self.page("/ready", missing_is="") or not self.sidecar.alive(), 15, "the sidecar")
        if not self.sidecar.alive():
            self.sidecar.finish(1)

    def page(self, path, missing_is=None):
        with self.spaces.inside(APP):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}{path}", timeout=5) as answer:
                    return answer.read().decode()
            except (urllib.error.URLError, OSError):
                if missing_is is None:
                    raise
                return missing_is

    def metric(self, name, *labels):
        """The sum of a metric's series with these labels."""
        total = 0
        for line in self.page("/metrics").splitlines():
            series, _, value = line.rpartition(" ")
            if series.split("{")[0] == name and all(label in series for label in labels):
                total += float(value)
        return int(total)

    def raddle(self, *arguments):
        return in_ns(APP, str(self.binary), *arguments)

    def install(self, tool, user=SIDECAR_USER):
        self.raddle("capture", "install", "--proxy-uid", str(user), "--mode", self.mode, "--backend", tool)

    def apply(self, text):
        generation = self.metric("raddle_config_generation")
        mesh.write(self.file, text)
        wait_until(lambda: self.metric("raddle_config_generation") > generation, 10, "the new configuration")

    def connect(self, family, port):
        return self.spaces.connect(APP, ADDRESS[family][FAR], port)


def expect(holds, what):
    if not holds:
        raise Failure(what)


def exchange(one, data, timeout=5):
    """Sends, and waits for the same back; how long it took."""
    began = time.monotonic()
    one.settimeout(timeout)
    one.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = one.recv(65536)
        expect(piece, f"the connection ended after {got!r} of {data!r}")
        got += piece
    expect(got == data, f"{got!r} came back for {data!r}")
    return time.monotonic() - began


def is_refused(m, family, port):
    """Whether a connection is ended without a byte."""
    try:
        with m.connect(family, port) as one:
            one.sendall(b"\xffabc")
            return one.recv(10) == b""
    except OSError:
        return True


def outbound(m, family):
    """What the app calls goes through the sidecar; returns how many connections that were."""
    count = 0
    for port, service in ((KNOWN, "ledger"), (UNKNOWN, "passthrough")):
        before = m.metric("raddle_requests_in_flight", f'service="{service}"')
        with m.connect(family, port) as one:
            took = exchange(one, b"\x04abc")
            expect(took < AT_ONCE_S, f"a first message of 4 bytes to port {port} waited {took:.2f} s")
            exchange(one, os.urandom(1 << 20))
            now = m.metric("raddle_requests_in_flight", f'service="{service}"')
            expect(now == before + 1, f"port {port} is not served as {service}")
        count += 1
    with m.connect(family, GREETS) as one:
        began = time.monotonic()
        expect(one.recv(5) == b"hello", "the server that speaks first was not heard")
        took = time.monotonic() - began
        expect(took < AT_ONCE_S, f"a server that speaks first was heard after {took:.2f} s on a declared port")
    return count + 1


def web_calls(m, family):
    """HTTP goes by its host if a service has it, else where it was going; returns how many connections."""
    at = ADDRESS[family][FAR]
    cases = (("prices.shop", b"named", "prices"), (f"[{at}]" if family == 6 else at, b"/price?of=tea", "passthrough"))
    for host, body, row in cases:
        before = m.metric("raddle_requests_total", f'service="{row}"', 'outcome="ok"')
        with m.connect(family, WEB) as one:
            answer = http.client.HTTPConnection(at, WEB)
            answer.sock = one
            answer.request("GET", "/price?of=tea", headers={"host": host})
            reply = answer.getresponse()
            got = reply.status, reply.read()
            expect(got == (200, body), f"{got} came for a request to {host}")
            reply.close()
        wait_until(lambda row=row, n=before: m.metric("raddle_requests_total", f'service="{row}"', 'outcome="ok"') > n,
                   5, f"a request counted as {row}'s")
    return len(cases)


def bolt(m, family):
    """Bolt by a service's name and by destination; returns how many connections that were."""
    at = f"[{ADDRESS[6][FAR]}]" if family == 6 else ADDRESS[4][FAR]
    known = "bench.Echo:1.0"
    cases = ((BOLT, known, known), (BOLT, "no.Such:1.0", known), (BOLT_UNKNOWN, "no.Such:1.0", "passthrough"))
    for port, service, row in cases:
        labels = (f'service="{row}"', 'outcome="ok"', 'direction="outbound"')
        before = m.metric("raddle_requests_total", *labels)
        text = m.raddle("bench", "load", "--target", f"{at}:{port}", "--service", service, "--connections", "2",
                        "--depth", "4", "--duration", "200ms", "--warmup", "50ms", "--size", "64", "-o", "json")
        result = json.loads(text[text.index("{"):])
        expect(result["requests"] > 0, f"no reply for {service}: {result}")
        seen = m.metric("raddle_requests_total", *labels) - before
        expect(seen >= result["requests"], f"{seen} of {result['requests']} requests for {service} are {row}'s")
    return 2 * len(cases)


def inbound(m, family):
    """What calls the app goes through the sidecar: the app sees its own machine as the caller."""
    with m.spaces.connect(FAR, ADDRESS[family][APP], APP_PORT) as one:
        one.sendall(b"who?")
        caller = one.recv(100).decode()
    expect(caller == ADDRESS[family][APP], f"the app was called by {caller}, not by its sidecar")
    return 1


def others_rules():
    """Rules that are somebody else's."""
    in_ns(APP, "nft", "add table inet theirs; add chain inet theirs input { type filter hook input priority 0; }")
    in_ns(APP, "iptables-nft", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "9", "-j", "RETURN")
    in_ns(APP, "iptables-nft", "-t", "mangle", "-N", "THEIRS")
    in_ns(APP, "ip6tables-legacy", "-t", "mangle", "-A", "PREROUTING", "-i", "lo", "-j", "ACCEPT")
    in_ns(APP, "ip", "rule", "add", "pref", "100", "fwmark", "0x10000/0x10000", "lookup", "main")


def same(before, after, what):
    if before != after:
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
        raise Failure(f"{what}:\n" + "\n".join(lines))


def replaced(m, tool):
    """At no moment of an install over another does a connection slip by."""
    stop, made, failed = threading.Event(), [0], []

    def call():
        try:
            while not stop.is_set():
                with m.connect(4 + 2 * (made[0] % 2), KNOWN) as one:
                    exchange(one, b"meanwhile")
                    made[0] += 1
        except (Failure, OSError) as error:
            failed.append(error)

    captured = m.metric("raddle_captured_connections_total")
    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    for direction in ("outbound", "both", "outbound", "both"):
        m.raddle("capture", "install", "--proxy-uid", str(SIDECAR_USER), "--mode", m.mode, "--backend", tool,
                 "--direction", direction)
    stop.set()
    caller.join(10)
    expect(not failed and made[0] > 10, f"{tool}: {made[0]} connections while rules were replaced, {failed}")
    captured = m.metric("raddle_captured_connections_total") - captured
    expect(captured == made[0], f"{tool}: {captured} of {made[0]} connections were captured in replacements")


def by_tool(report, m, tool):
    """One mode by one tool: install twice, use, remove."""
    if tool == "iptables-legacy":
        # The kernel makes these tables when they are first asked for, and never takes them away again.
        for program in ("iptables-legacy", "ip6tables-legacy"):
            for table in ("nat", "mangle"):
                in_ns(APP, program, "-t", table, "-S")
    before = tables()
    with m.connect(4, KNOWN) as old:
        exchange(old, b"before the rules")
        m.install(tool)
        once = tables()
        m.install(tool)
        same(once, tables(), f"{tool}: a second install changed something")
        exchange(old, b"after the rules")
        replaced(m, tool)
        m.install(tool)
        captured, connections = m.metric("raddle_captured_connections_total"), 0
        for family in (4, 6):
            connections += outbound(m, family) + web_calls(m, family) + bolt(m, family) + inbound(m, family)
        seen = m.metric("raddle_captured_connections_total") - captured
        # The load generator may make some of its own beside those it was told to.
        expect(seen >= connections, f"{tool}: the sidecar saw {seen} captured connections of {connections}")
        shown = json.loads(m.raddle("capture", "show", "-o", "json"))
        counted = sum(c[d]["connections"] for c in shown["captures"] for d in ("outbound", "inbound"))
        expect(counted == seen, f"{tool}: `show` counts {counted} connections, the sidecar {seen}")
        expect(m.metric("raddle_capture_loops_total") == 0, "the sidecar's own connections were captured")
    m.raddle("capture", "remove")
    same(before, tables(), f"{tool}: `remove` left something else than there was")
    captured = m.metric("raddle_captured_connections_total")
    with m.connect(4, KNOWN) as direct:
        exchange(direct, b"directly again")
    expect(m.metric("raddle_captured_connections_total") == captured, "captured although removed")
    report.ok(f"capture {m.mode} {tool}", f"{seen} connections by IPv4 and IPv6, all seen by the sidecar; "
                                          "second install equal, removed without a trace")


def by_policy(report, m):
    """Silence, unknown destinations denied, connections to the sidecar itself."""
    m.install("nft")
    began = time.monotonic()
    with m.connect(6, GREETS_LATE) as one:
        expect(one.recv(5) == b"hello", "silence did not end as TCP")
    took = time.monotonic() - began
    expect(DETECT_S * 0.9 < took < DETECT_S + 2, f"silence became TCP after {took:.1f} s")
    refused = m.metric("raddle_requests_total", 'reason="NC"')
    with m.spaces.connect(APP, "127.0.0.1", OUTBOUND) as one:
        one.sendall(b"\xffabc")
        expect(one.recv(10) == b"", "the sidecar's own listener served somebody who came directly")
    m.apply(config(m.mode, unknown="deny"))
    expect(is_refused(m, 4, UNKNOWN) and is_refused(m, 6, UNKNOWN), "an unknown destination was served")
    with m.connect(6, KNOWN) as one:
        exchange(one, b"known")
    now = m.metric("raddle_requests_total", 'reason="NC"')
    expect(now == refused + 3, f"{now - refused} refusals were counted as NC, not 3")
    m.apply(config(m.mode))
    # More destinations than are kept, nobody at any of them.
    for port in range(SCANNED, SCANNED + SCANS):
        expect(is_refused(m, 4, port), f"somebody served port {port}")
    with m.connect(4, UNKNOWN) as one:
        exchange(one, b"allowed again")
    m.raddle("capture", "remove")
    report.ok(f"capture {m.mode} policy", "silence is TCP after detectTimeout; unknown destinations are refused "
                                          "with NC where denied, and so are connections to the listener itself; "
                                          f"a scan of {SCANS} ports disturbs nobody")


def by_mistake(report, m):
    """Rules that do not know the sidecar's user: its connections come round, and are refused."""
    m.install("nft", user=SIDECAR_USER + 1)
    captured = m.metric("raddle_captured_connections_total")
    for family in (4, 6):
        expect(is_refused(m, family, KNOWN), "a connection that comes round was served")
        expect(is_refused(m, family, UNKNOWN), "a connection that comes round was served")
    loops = m.metric("raddle_capture_loops_total")
    captured = m.metric("raddle_captured_connections_total") - captured
    expect(loops >= 4 and captured <= 4 * 4, f"{loops} loops found, {captured} connections captured")
    expect("capture_loop" in m.page("/events"), "no event tells of the loop")
    m.raddle("capture", "remove")
    report.ok(f"capture {m.mode} loop", f"rules for the wrong user: {loops} connections of the sidecar's own found "
                                        "and refused, none goes round")


def capture(report):
    """All of it."""
    if os.geteuid() != 0:
        raise Skip("needs root, for network namespaces")
    for program in ("ip", "setpriv", "nft", "iptables-nft", "iptables-legacy"):
        need(program)
    with Workspace("capture") as work:
        for mode in ("redirect", "tproxy"):
            with Namespaces() as spaces:
                spaces.serve(FAR, KNOWN, echo)
                spaces.serve(FAR, UNKNOWN, echo)
                spaces.serve(FAR, GREETS, greet)
                spaces.serve(FAR, GREETS_LATE, greet)
                spaces.serve(FAR, WEB, web)
                spaces.serve(FAR, NAMED_WEB, named_web)
                spaces.serve(APP, APP_PORT, who)
                m = Machine(work, spaces, mode)
                for family, at in ((4, ADDRESS[4][FAR]), (6, f"[{ADDRESS[6][FAR]}]")):
                    for port in (BOLT, BOLT_UNKNOWN):
                        work.start(f"bolt-{mode}-{family}-{port}", [
                            "ip", "netns", "exec", FAR, m.binary, "bench", "serve", "--protocol", "bolt",
                            "--listen", f"{at}:{port}"])
                m.start()
                for family in (4, 6):
                    # Neighbours have to find each other first, which may take a second.
                    with m.connect(family, KNOWN) as one:
                        exchange(one, b"are you there?")
                if mode == "tproxy":
                    others_rules()
                for tool in TOOLS:
                    by_tool(report, m, tool)
                by_policy(report, m)
                if mode == "redirect":
                    # With NET_ADMIN, as TPROXY needs, the sidecar marks its connections: no loop to be found.
                    by_mistake(report, m)
                m.sidecar.stop()
