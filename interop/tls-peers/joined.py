"""A mesh with the control plane's own authority: tokens, certificates, and sockets that hand certificates on."""

import http.client
import subprocess

import control
import mesh
import parties
from harness import Failure, free_ports, wait_until

DOMAIN = "mesh.local"


class Plane(control.Control):
    """A control plane with TLS and tokens, on free ports."""

    def __init__(self, work, name="control", extra=()):
        self.tls, = free_ports(1)
        self.tokens = {}
        super().__init__(work, name, extra)
        self.admin_token = work.folder / f"{name}.admin-token"
        self.environment = {"RADDLE_TOKEN_FILE": str(self.admin_token)}
        self.headers = {"Authorization": f"Bearer {self.admin_token.read_text().strip()}"}
        self.roots = work.folder / f"{name}-roots.pem"
        self.roots.write_text(self.cli("ca", "roots"))

    def start(self):
        command = [mesh.binary(), "control", *self.store, "--grpc-listen", f"127.0.0.1:{self.grpc}", "--tls-listen",
                   f"127.0.0.1:{self.tls}", "--rest-listen", f"127.0.0.1:{self.rest}", *self.extra]
        self.process = self.work.start(f"{self.name}-{self.life}", command)
        self.life += 1
        wait_until(lambda: self.ready() or not self.process.alive(), 20, f"{self.name} to be ready")
        if not self.process.alive():
            self.process.finish(1)

    def token(self, app, unit="u1"):
        """A file with a token for an app's certificates."""
        if (app, unit) not in self.tokens:
            path = self.work.folder / f"{app}-{unit}.token"
            self.cli("token", "create", "--app", app, "--unit", unit, "--out", path)
            self.tokens[app, unit] = path
        return self.tokens[app, unit]

    def joins(self, app, unit="u1", sds=None):
        """The `controlPlane` part of a sidecar."""
        parts = [f'addresses: ["https://127.0.0.1:{self.tls}"]', f"rootsFile: {self.roots}",
                 f"tokenFile: {self.token(app, unit)}"]
        if sds:
            parts.append(f"sds: {{socket: {sds}}}")
        return f"controlPlane: {{{', '.join(parts)}}}"


def agent(work, plane, app, name=None):
    """A sidecar that does nothing but hand an app's certificate on; its socket."""
    name = name or f"{app}-agent"
    # Paths of sockets are short.
    path = work.folder / f"{name}.sock"
    admin, = free_ports(1)
    parties.Sidecar(work, name, admin, parties.sidecar(name, app, admin, more=[plane.joins(app, sds=path)]))
    wait_until(path.exists, 10, f"{name}'s socket")
    return path


def request(port, path="/", headers=None, method="GET", body=None, timeout=10):
    """Status, headers and text of an HTTP/1.1 request."""
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        one.request(method, path, body=body, headers={"Host": parties.HOST, **(headers or {})})
        answer = one.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode("latin-1")
    finally:
        one.close()


def curl(*arguments, code=0):
    """Runs curl; standard output, or its complaint. `code`: the exit code it must have; None: any but 0."""
    done = subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", "10", *map(str, arguments)],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    right = done.returncode != 0 if code is None else done.returncode == code
    if not right:
        raise Failure(f"curl {' '.join(map(str, arguments))} ended with {done.returncode}: {done.stdout[:300]}"
                      f"{done.stderr[:300]}")
    return done.stdout if code == 0 else done.stderr.strip().splitlines()[0]
