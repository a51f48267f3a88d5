"""Sidecars between caller and callee: their configuration files, and starting them."""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from harness import Skip, free_ports, wait_until

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SERVICES = (
    "io.raddle.interop.api.ShopService:1.0",
    "io.raddle.interop.api.ShopService:1.0:second",
    "io.raddle.interop.proto.ShopProtoService:1.0",
)
RAW_SERVICE = "raw-bolt"


def binary():
    """The sidecar to test: $RADDLE_BIN, or the release build."""
    path = Path(os.environ.get("RADDLE_BIN") or REPOSITORY / "target/release/raddle")
    if not path.exists():
        raise Skip(f"no sidecar at {path}: cargo build --release -p raddle-cli, or set RADDLE_BIN")
    return path


def sidecar(name, app, admin, inbound=(), outbound=(), log=None):
    """A Sidecar document; `inbound` is (listen, forward) ports, `outbound` is (listen, service or None)."""
    lines = [
        "apiVersion: raddle.io/v1", "kind: Sidecar", f"metadata: {{name: {name}}}", "spec:",
        f"  app: {app}", f"  admin: 127.0.0.1:{admin}", "  replies: readable",
    ]
    if inbound:
        lines.append("  inbound:")
        lines += [f"  - {{listen: 127.0.0.1:{at}, forward: 127.0.0.1:{to}}}" for at, to in inbound]
    if outbound:
        lines.append("  outbound:")
        for at, service in outbound:
            default = f", service: {service}" if service else ""
            lines.append(f"  - {{listen: 127.0.0.1:{at}{default}}}")
    if log:
        lines.append(f"  accessLog: {{path: {log}, format: json}}")
    return "\n".join(lines) + "\n"


def service(name, ports, weights=None):
    """A Service document with an endpoint a port."""
    lines = [
        "apiVersion: raddle.io/v1", "kind: Service", f'metadata: {{name: "{name}"}}', "spec:",
        "  app: order", "  protocol: bolt", "  endpoints:",
    ]
    for index, port in enumerate(ports):
        weight = weights[index] if weights else 100
        lines.append(f"  - {{address: 127.0.0.1:{port}, weight: {weight}, labels: {{version: v{index + 1}}}}}")
    return "\n".join(lines) + "\n"


def document(*parts):
    return "---\n".join(parts)


def write(path, text):
    """Replaces a configuration file as deployment tools do: whole, by renaming."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def get(admin, path):
    """The text of an admin page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}{path}", timeout=5) as answer:
        return answer.read().decode()


def share(admin, address):
    """Requests an endpoint was sent."""
    for cluster in json.loads(get(admin, "/clusters")):
        for endpoint in cluster["endpoints"]:
            if endpoint["address"] == address:
                return endpoint["requests"]
    return 0


def ready(admin):
    """Whether the sidecar says it is ready."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready", timeout=1) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def start(work, name, config, admin):
    """Starts a sidecar on a configuration file and waits until it is ready."""
    process = work.start(name, [binary(), "proxy", "--config", config])
    wait_until(lambda: ready(admin) or not process.alive(), 15, f"{name} to be ready")
    if not process.alive():
        process.finish(1)
    return process


class Pair:
    """A callee's and a caller's sidecar around one server: calls to `rpc` and `raw` go through both."""

    def __init__(self, work, rpc_app, raw_app=0):
        binary()
        self.rpc, self.raw, callee_rpc, callee_raw, callee_admin, caller_admin = free_ports(6)
        forwards = [(callee_rpc, rpc_app)] + ([(callee_raw, raw_app)] if raw_app else [])
        callee = work.folder / "callee.yaml"
        write(callee, sidecar("order-1", "order", callee_admin, inbound=forwards))
        caller = work.folder / "caller.yaml"
        listeners = [(self.rpc, None)] + ([(self.raw, RAW_SERVICE)] if raw_app else [])
        services = [service(name, [callee_rpc]) for name in SERVICES]
        if raw_app:
            services.append(service(RAW_SERVICE, [callee_raw]))
        write(caller, document(sidecar("shop-1", "shop", caller_admin, outbound=listeners), *services))
        start(work, "callee-sidecar", callee, callee_admin)
        start(work, "caller-sidecar", caller, caller_admin)
