"""HTTP by curl: every case directly, then through two sidecars; what only sidecars do; TLS."""

import socket
import subprocess

import comparing
import http_cases
import http_mesh
import http_peers
import mesh
from curl import HOST, Curl, Origin
from harness import Failure, Skip, Workspace, free_ports, wait_until

COMMON = [
    # Whoever takes the head says that it is too large; a sidecar has 64 KiB for it.
    (r"header\.320 KiB.*", r".*\b431\b.*|.*curl: (stream error|HTTP/2 error|connection broken)"),
    # Over HTTP/2 a reset stays a reset.
    (r"broken\.no reply at all", r"503 \|\| UC \|\| 0 \|\| 1|0 \|\| None \|\| 92 \|\| 1"),
    # The reply may be whole before the body has come to a sidecar, which then has nobody to send it to. Over HTTP/2 it
    # resets the stream with NO_ERROR (RFC 9113, section 8.1); curl 7.88 that was about to send takes that for an error.
    (r"body\.replied to before it was read",
     r"(?i)((HTTP/1\.1 )?200( OK)? \| x-origin: A \| content-length: 6 \| body 6 bytes 1907a738b535|no body \| curl: stream error)"
     r" \|\| POST /early .*(body 3 bytes b60d121b438a|INCOMPLETE)"),
]
STRICT = comparing.Agreement([
    *COMMON,
    # The version is the sidecar's own.
    (r"body\.HTTP/1\.0 reply", r"HTTP/1\.1 200 OK \| Content-Type: text/plain \| Content-Length: 4 \| body 4 .*"),
    # The connection to the caller can stay: the body's end is said in another way.
    (r"body\.until the end.*", r"HTTP/1\.1 200 OK \| Content-Type: text/plain \| [Tt]ransfer-[Ee]ncoding: chunked \| body 4 .*"),
    # Whether trailers are welcome is for each hop to say.
    (r"body\.chunked, with trailers", r"HTTP/.* \| trailer x-checksum: abc \| trailer x-other: d, e \|\| GET .*"),
    (r"body\.request trailers", r"HTTP/1\.1 200 OK \|\| POST .* \| body 8 bytes 9fd8cfc13379 \| trailer x-sum: 8"),
    # A reply without a body has nothing to be chunked.
    (r"method\.HEAD of a page without length", r"HTTP/\S+ 200( OK)? \| [Cc]ontent-[Tt]ype: text/plain \| .*no body \|\| HEAD .*"),
    # What is said of one connection is not passed on.
    (r"header\.of the connection", r".*\|\| GET /echo HTTP/1\.1 \| Host: shop\.test \| User-Agent: curl \| Accept: \*/\* \| X-End: 2"),
])
LOOSE = comparing.Agreement([
    *COMMON,
    (r"body\.HTTP/1\.0 reply", r"200 \| content-type: text/plain \| content-length: 4 \| body 4 .*"),
    (r"header\.of the connection", r".*\|\| GET /echo \| host: shop\.test \| user-agent: curl \| accept: \*/\* \| x-end: 2"),
])


class Setting:
    """An origin, and sidecars before it in every way this suite needs."""

    def __init__(self, work):
        self.work = work
        self.app, = free_ports(1)
        self.process, log = http_peers.start_origin(work, "origin", self.app)
        self.origin = Origin(self.app, log)

    def direct(self, version, *options):
        return Curl(self.work, self.origin, self.app, version, *options)

    def meshed(self, name, version, between=None, app=None):
        """Through a caller's and a callee's sidecar; the versions between them and to the app may be told."""
        mesh.binary()
        at, outbound, callee, caller = free_ports(4)
        told = {"appProtocol": app} if app else {}
        http_mesh.start(self.work, f"{name}-callee", callee, http_mesh.sidecar(
            "callee-1", "callee", callee, [http_mesh.forward(at, self.app, **told)],
            log=self.work.folder / f"{name}-callee-access.log"))
        http_mesh.start(self.work, f"{name}-caller", caller, http_mesh.sidecar(
            "caller-1", "caller", caller, outbound=[http_mesh.listen(outbound)],
            log=self.work.folder / f"{name}-caller-access.log"), http_mesh.service(HOST, [at], between))
        return Curl(self.work, self.origin, outbound, version)


def compared(version, ways):
    """A suite: directly, then in each way (name, protocol between the sidecars, protocol of the app, strictly)."""

    def run(report, name, record):
        http_peers.ready("curl")
        with Workspace(name) as work:
            setting = Setting(work)
            direct = http_cases.outcomes(setting.direct(version))
            texts = {case: texts[0] for case, texts in direct.items()}
            comparing.compare(report, f"{name} direct", comparing.recorded(name, texts, record), texts,
                              comparing.Agreement())
            for way, between, app, strict in ways:
                title = f"{name} {way}"
                try:
                    meshed = http_cases.outcomes(setting.meshed(way.replace(" ", "-").replace("/", ""), version, between, app))
                except Skip as reason:
                    report.skip(title, reason)
                    continue
                pick = 0 if strict else 1
                right = comparing.compare(report, title, {case: text[pick] for case, text in direct.items()},
                                          {case: text[pick] for case, text in meshed.items()},
                                          STRICT if strict else LOOSE)
                if not right:
                    work.print_logs()

    return run


http1 = compared(1, [("through the mesh", None, None, True), ("over HTTP/2 between sidecars", "http2", "http", False)])
http2 = compared(2, [("through the mesh", None, None, False), ("to an HTTP/1.1 app", None, "http", False)])


class Checks:
    """Facts with a name each, counted as one group."""

    def __init__(self, report, title):
        self.report, self.title, self.wrong, self.count = report, title, [], 0

    def that(self, name, held, seen):
        self.count += 1
        if not held:
            self.wrong.append(f"{name}\n      seen   {seen}")

    def done(self):
        if self.wrong:
            self.report.fail(self.title, f"{len(self.wrong)} of {self.count} cases\n    " + "\n    ".join(self.wrong))
        else:
            self.report.ok(self.title, f"{self.count} cases")


def proxy(report, _name, _record):
    """What has no direct counterpart: proxy modes, upgrades, and the sidecar's own answers."""
    http_peers.ready("curl")
    mesh.binary()
    with Workspace("http-proxy") as work:
        setting = Setting(work)
        at, outbound, open_outbound, timed, nobody, callee, caller = free_ports(7)
        http_mesh.start(work, "callee", callee, http_mesh.sidecar("callee-1", "callee", callee,
                        [http_mesh.forward(at, setting.app), http_mesh.forward(timed, nobody)]))
        http_mesh.start(
            work, "caller", caller,
            http_mesh.sidecar("caller-1", "caller", caller, log=work.folder / "caller-access.json", outbound=[
                http_mesh.listen(outbound), http_mesh.listen(open_outbound, unknownDestinations="allow")]),
            http_mesh.service(HOST, [at]), http_mesh.service("dead.test", [nobody], hosts=['"*.dead.test"']),
            http_mesh.service("deaf.test", [timed]), http_mesh.service("empty.test", []),
            http_mesh.service("slow.test", [at]),
            http_mesh.policy("bounds", ["slow.test"], ["timeouts: {request: 700ms}"]))
        direct = setting.direct(1)
        through = Curl(work, setting.origin, outbound, 1)
        wanted = [http_cases.shown(part, True) for part in direct.both("/echo", *http_cases.data(5))]
        proxy_modes(report, setting, wanted, outbound, open_outbound)
        own_answers(report, setting, through)
        upgrades(report, setting, wanted, outbound)


def proxy_modes(report, setting, wanted, outbound, open_outbound):
    """`curl -x` and `curl -p -x`: by service name, by address, and what is refused."""
    checks = Checks(report, "http-proxy modes")
    post = http_cases.data(5)

    def via(port, url, *args, seen=1):
        plain = Curl(setting.work, setting.origin, port, 1)
        plain.options = ["-sS", "-q", "-m", "10", "-A", "curl", "--noproxy", "", "-x", f"http://127.0.0.1:{port}"]
        reply, requests = plain.both(url, *args, seen=seen)
        if "-p" in args and len(reply.heads) > 1:
            reply.heads = reply.heads[1:]  # What CONNECT was answered.
        return reply, [http_cases.shown(part, True) for part in (reply, requests)]

    for title, args in (("plain proxy", ()), ("CONNECT", ("-p",))):
        seen = via(outbound, f"http://{HOST}/echo", *args, *post)[1]
        checks.that(f"{title} to a service is as direct", seen == wanted, seen)
        reply, _ = via(outbound, f"http://127.0.0.1:{setting.app}/echo", *args, seen=0)
        refused = reply.header("x-raddle-reason") == "NC" or reply.code == 56
        checks.that(f"{title} to an unknown destination is refused", refused, reply.text(True))
        reply, _ = via(open_outbound, f"http://127.0.0.1:{setting.app}/echo", *args)
        checks.that(f"{title} to an unknown destination passes where allowed", reply.status() == 200, reply.text(True))
        reply, _ = via(open_outbound, f"http://127.0.0.1:{open_outbound}/echo", *args, seen=0)
        checks.that(f"{title} to the sidecar itself does not go round", reply.status() != 200, reply.text(True))
    checks.done()


def own_answers(report, setting, through):
    """Each rejection has its status, its flag and a sentence."""
    checks = Checks(report, "http-proxy the sidecar's own answers")

    def asked(host, path="/echo", *args):
        reply = through.run(path, "-H", f"Host: {host}", *args)
        return reply, (reply.status(), reply.header("x-raddle-reason"))

    for name, host, wanted in (
            ("unknown host", "nobody.test", {(503, "NC"), (404, "NR")}), ("no endpoint", "empty.test", {(503, "UH")}),
            ("nobody listens", "dead.test", {(503, "UF")}), ("nobody listens, by a wildcard", "a.b.dead.test", {(503, "UF")}),
            ("the app does not listen", "deaf.test", {(503, "UF")})):
        reply, seen = asked(host)
        checks.that(name, seen in wanted and b"raddle" in reply.body, reply.text(True))
    reply, seen = asked("slow.test", "/hang")
    checks.that("time is over", seen == (504, "UT"), reply.text(True))
    reply, seen = asked("shop.test:8080")
    checks.that("a port in Host makes no difference", seen == (200, None), reply.text(True))
    reply, seen = asked("SHOP.Test")
    checks.that("nor does its case", seen == (200, None), reply.text(True))
    setting.origin.new(3)
    got = through.raw(b"GET / HTTP/1.1\r\n\r\n")
    checks.that("no Host is a bad request", got.startswith("HTTP/1.1 400"), got)
    got = through.raw(b"GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    checks.that("two lengths are a bad request", got.startswith("HTTP/1.1 400"), got)
    leaked = setting.origin.new(0)
    checks.that("nothing of these reached the origin", not leaked, leaked)
    checks.done()


def upgrades(report, setting, wanted, outbound):
    """h2c by Upgrade may be declined, but must work and must not leak."""
    checks = Checks(report, "http-proxy upgrades")
    upgrading = Curl(setting.work, setting.origin, outbound, 1, "--http2")
    reply, seen = upgrading.both("/echo")
    names = [name.lower() for one in seen for name, _ in one["headers"]]
    checks.that("h2c by Upgrade is served", reply.status() == 200 and len(seen) == 1, reply.text(False))
    checks.that("its headers stay at the sidecar", not {"upgrade", "http2-settings"} & set(names), names)
    report_version = reply.heads[-1][0] if reply.heads else "nothing"
    checks.that("an unknown upgrade is not made", *unknown_upgrade(setting, outbound))
    checks.done()
    print(f"     h2c by Upgrade is answered with {report_version}", flush=True)
    del wanted


def unknown_upgrade(setting, outbound):
    through = Curl(setting.work, setting.origin, outbound, 1)
    reply, _ = through.both("/echo", "-H", "Connection: Upgrade", "-H", "Upgrade: tea/1")
    return reply.status() == 200, reply.text(False)


def certificate(work, name, serial):
    """A self-made certificate for the host; (certificate, key)."""
    paths = work.folder / f"{name}.pem", work.folder / f"{name}.key"
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-set_serial", str(serial),
         "-keyout", paths[1], "-out", paths[0]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"openssl: {done.stderr}")
    return paths


def tls(report, _name, _record):
    """A listener that ends TLS: by ALPN, beside plaintext, with a certificate that changes."""
    http_peers.ready("curl", "openssl")
    mesh.binary()
    with Workspace("http-tls") as work:
        setting = Setting(work)
        at, admin = free_ports(2)
        shown_pem, shown_key = certificate(work, "shown", 1)
        document = (f"apiVersion: raddle.io/v1\nkind: Certificate\nmetadata: {{name: shop}}\n"
                    f"spec: {{certificate: {shown_pem}, key: {shown_key}}}\n")
        # The app's own HTTP is 1.1, whatever was agreed on by ALPN.
        http_mesh.start(work, "callee", admin, http_mesh.sidecar(
            "callee-1", "callee", admin, [http_mesh.forward(at, setting.app, tls="{certificate: shop}")],
            log=work.folder / "callee-access.log"), document)
        checks = Checks(report, "http-tls")
        trusted = work.folder / "trusted.pem"
        trusted.write_bytes(shown_pem.read_bytes())
        ways = {
            "HTTP/1.1 by ALPN": (1, ()), "HTTP/2 by ALPN": (2, ()), "no ALPN": (1, ("--no-alpn",)),
            "TLS 1.2": (2, ("--tls-max", "1.2")), "TLS 1.3": (2, ("--tlsv1.3",)),
        }
        for name, (version, options) in ways.items():
            secure = Curl(work, setting.origin, at, version, "--cacert", str(trusted), *options, scheme="https")
            for path, args in (("/echo", http_cases.data(5)), (f"/bytes/{1 << 20}", ()), ("/chunked/3/10", ())):
                wanted = [http_cases.shown(part, True) for part in setting.direct(version).both(path, *args)]
                reply, seen = secure.both(path, *args)
                found = [http_cases.shown(part, True) for part in (reply, seen)]
                checks.that(f"{name}: {path} is as without", found == wanted, found)
                spoken = reply.heads[-1][0].split(" ")[0] if reply.heads else ""
                checks.that(f"{name}: the version agreed on", spoken == f"HTTP/{1.1 if version == 1 else 2}", spoken)
        plain = Curl(work, setting.origin, at, 1)
        reply, _ = plain.both("/echo")
        checks.that("plaintext on the same port", reply.status() == 200, reply.text(False))
        stranger = Curl(work, setting.origin, at, 1, scheme="https")
        checks.that("a caller that does not trust it is gone", stranger.run("/echo").code == 60, "")
        checks.that("a caller that sends one byte of TLS disturbs nobody", *one_byte(plain, at))
        rotate(checks, setting, work, at, (shown_pem, shown_key), trusted)
        checks.done()


def one_byte(plain, port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as wire:
        wire.sendall(b"\x16")
        reply, _ = plain.both("/echo")
    return reply.status() == 200, reply.text(False)


def rotate(checks, setting, work, port, shown, trusted):
    """New files: new connections see the new certificate, a live transfer goes on."""
    secure = Curl(work, setting.origin, port, 1, "--cacert", str(trusted), scheme="https")
    running = secure.start("/sse/rotate/2")
    try:
        first = running.stdout.readline()
        running.stdout.readline()
        new_pem, new_key = certificate(work, "new", 2)
        for new, old in zip((new_key, new_pem), (shown[1], shown[0])):
            new.replace(old)
        trusted.write_bytes(shown[0].read_bytes())

        def changed():
            return secure.run("/echo").status() == 200

        try:
            wait_until(changed, 10, "the new certificate")
            seen = ""
        except Failure as error:
            seen = str(error)
        checks.that("new connections see a new certificate", not seen, seen)
        setting.origin.release("rotate/0")
        second = running.stdout.readline()
        setting.origin.release("rotate/1")
        running.stdout.read()
        checks.that("a live connection outlives the change", (first, second) == (b"data: 0\n", b"data: 1\n"), (first, second))
    finally:
        running.kill()
        running.wait()
    setting.origin.new(0)


COMPARISONS = {"http1": http1, "http2": http2, "http-proxy": proxy, "http-tls": tls}
