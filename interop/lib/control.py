"""A control plane for suites: starting it, asking it, and sidecars that join it."""

import json
import subprocess
import urllib.request

import mesh
from harness import Failure, free_ports, wait_until


class Control:
    """`raddle control` on free ports with an embedded store; it can be killed and started again."""

    def __init__(self, work, name="control", extra=(), etcd=None):
        mesh.binary()
        self.work, self.name, self.extra, self.life = work, name, list(extra), 0
        self.grpc, self.rest = free_ports(2)
        self.store = ["--etcd", etcd, "--id", name] if etcd else ["--store", work.folder / f"{name}.db"]
        self.process = None
        # What the command line and requests show besides; nothing as long as no token is demanded.
        self.environment, self.headers = {}, {}
        self.start()

    def start(self):
        command = [mesh.binary(), "control", *self.store, "--grpc-listen", f"127.0.0.1:{self.grpc}",
                   "--tls-listen", "off", "--rest-listen", f"127.0.0.1:{self.rest}", "--no-auth", *self.extra]
        self.process = self.work.start(f"{self.name}-{self.life}", command)
        self.life += 1
        wait_until(lambda: self.ready() or not self.process.alive(), 20, f"{self.name} to be ready")
        if not self.process.alive():
            self.process.finish(1)

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest}/readyz", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def get(self, path):
        asked = urllib.request.Request(f"http://127.0.0.1:{self.rest}{path}", headers=self.headers)
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return json.loads(answer.read())

    def cli(self, *arguments, stdin=None, code=0):
        """Runs `raddle ARGUMENTS` against it; standard output. `code`: the exit code it must have (None: any)."""
        done = subprocess.run([str(mesh.binary()), *map(str, arguments)], input=stdin, capture_output=True, text=True,
                              timeout=60, check=False, stdin=None if stdin is not None else subprocess.DEVNULL,
                              env={"RADDLE_SERVER": f"http://127.0.0.1:{self.rest}", "PATH": "/usr/bin:/bin",
                                   **self.environment})
        if code is not None and done.returncode != code:
            raise Failure(f"raddle {' '.join(map(str, arguments))} ended with {done.returncode}, not {code}:\n"
                          f"{done.stdout}{done.stderr}")
        return done.stdout + (done.stderr if code else "")

    def apply(self, text, code=0, *options):
        return self.cli("apply", "-f", "-", *options, stdin=text, code=code)

    def sidecars(self):
        """What every sidecar says it runs, by id."""
        return {one["id"]: one for one in self.get("/v1/sidecars?limit=1000")["items"]}

    def endpoints(self, service):
        return self.get(f"/v1/services/{service}")["endpoints"]


def sidecar(name, app, admin, control, inbound=(), outbound=(), publish=(), unit=None, more=(), address="127.0.0.1"):
    """A Sidecar document that joins a control plane.

    `inbound`: (listen, forward) ports; `outbound`: ports or ADDRESS:PORT; `publish`: (service, protocol, port).
    """
    lines = ["apiVersion: raddle.io/v1", "kind: Sidecar", f"metadata: {{name: {name}}}", "spec:", f"  app: {app}",
             f"  admin: 127.0.0.1:{admin}"]
    if unit:
        lines.append(f"  unit: {unit}")
    planes = control if isinstance(control, (list, tuple)) else [control]
    addresses = ", ".join(f"http://127.0.0.1:{one.grpc}" for one in planes)
    # One with tokens says itself how an app joins it.
    joins = planes[0].joins(app, unit) if hasattr(planes[0], "joins") else f"controlPlane: {{addresses: [{addresses}]}}"
    lines.append(f"  {joins}")
    if inbound:
        lines.append("  inbound:")
        lines += [f"  - {{listen: {address}:{at}, forward: 127.0.0.1:{to}}}" for at, to in inbound]
    if outbound:
        lines.append("  outbound:")
        lines += [f"  - {{listen: {at if ':' in str(at) else f'127.0.0.1:{at}'}}}" for at in outbound]
    if publish:
        lines += ["  publish:", "    services:"]
        lines += [f'    - {{name: "{service}", protocol: {protocol}, port: {port}}}'
                  for service, protocol, port in publish]
    lines += [f"  {line}" for line in more]
    return "\n".join(lines) + "\n"


def start_sidecar(work, name, admin, text):
    config = work.folder / f"{name}.yaml"
    mesh.write(config, text)
    return mesh.start(work, name, config, admin)
