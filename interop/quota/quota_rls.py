"""Cluster quota with a real Envoy: its rate limit filter asks the control plane's own rate limit service."""

import json
import time
import urllib.error
import urllib.request

import control
import mesh
import quota_sidecars
from harness import Failure, Workspace, accepts, free_ports, need, wait_until

LIMIT = 50
SECONDS = 10


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port, http2):
    options = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {"name": name, "type": "STATIC", "connect_timeout": "1s",
            "typed_extension_protocol_options": {kind: {"@type": f"type.googleapis.com/{kind}",
                                                        "explicit_http_config": options}},
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(port)}}]}]}}


def envoy(work, listen, admin, echo, grpc):
    """An Envoy that asks about every request, with its path as descriptor."""
    http = "envoy.extensions.filters.http"
    asked = {"name": "envoy.filters.http.ratelimit", "typed_config": {
        "@type": f"type.googleapis.com/{http}.ratelimit.v3.RateLimit", "domain": "raddle", "failure_mode_deny": True,
        "timeout": "1s", "rate_limit_service": {
            "grpc_service": {"envoy_grpc": {"cluster_name": "control"}}, "transport_api_version": "V3"}}}
    router = {"name": "envoy.filters.http.router",
              "typed_config": {"@type": f"type.googleapis.com/{http}.router.v3.Router"}}
    actions = [{"request_headers": {"header_name": ":path", "descriptor_key": "path"}}]
    route = {"match": {"prefix": "/"}, "route": {"cluster": "echo", "rate_limits": [{"actions": actions}]}}
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
                        ".HttpConnectionManager",
               "stat_prefix": "edge", "http_filters": [asked, router],
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}}
    listener = {"name": "edge", "address": address(listen), "filter_chains": [{"filters": [
        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}
    config = {"admin": {"address": address(admin)}, "static_resources": {
        "listeners": [listener], "clusters": [cluster("echo", echo, False), cluster("control", grpc, True)]}}
    path = work.folder / "envoy.json"
    path.write_text(json.dumps(config))
    work.start("envoy", ["envoy", "-c", path, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"])
    wait_until(lambda: accepts(listen), 30, "Envoy to listen")


def call(port, path):
    """Status and headers of a request."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers


def counted(plane):
    """The rule as the control plane counts it; None as long as it only learns."""
    rules = [r for r in plane.get("/v1/quota")["rules"] if r["rule"] == "RateLimit/edge"]
    return next((r for r in rules if r["mode"] != "learning"), None)


def load(port, seconds):
    """Requests that passed, and the headers of one that did not."""
    passed, held, end = 0, None, time.monotonic() + seconds
    while time.monotonic() < end:
        status, headers = call(port, "/cart/1")
        if status == 200:
            passed += 1
        elif status == 429:
            held = headers
        else:
            raise Failure(f"a request was answered {status}")
    return passed, held


def rls(report):
    """Envoy lets no more through than the rule; says which one; other paths pass; so after a kill -9."""
    need("envoy")
    with Workspace("quota") as work:
        echo, listen, admin = free_ports(3)
        work.start("echo", [mesh.binary(), "bench", "serve", "--protocol", "http", "--listen", f"127.0.0.1:{echo}"])
        wait_until(lambda: accepts(echo), 20, "the echo server")
        plane = control.Control(work)
        plane.apply("apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {name: edge}\n"
                    f"spec: {{when: {{path: {{prefix: /cart}}}}, rate: {LIMIT}, reach: cluster}}\n")
        envoy(work, listen, admin, echo, plane.grpc)
        wait_until(lambda: counted(plane), 20, "the rule to be counted")
        for life in ("first", "after kill -9"):
            passed, held = load(listen, SECONDS)
            if not 0.8 * LIMIT * SECONDS <= passed <= 1.05 * LIMIT * SECONDS + 10:
                raise Failure(f"{life}: {passed} requests of {LIMIT * SECONDS} passed in {SECONDS} s")
            if held is None or held.get("raddle-rule") != "RateLimit/edge" or held.get("raddle-reason") != "CL":
                raise Failure(f"{life}: a refusal does not name its rule: {held}")
            report.ok(f"quota, {life}", f"through Envoy {passed} of {LIMIT * SECONDS} requests pass in {SECONDS} s")
            if any(call(listen, "/other")[0] != 200 for _ in range(200)):
                raise Failure("what no rule counts was refused")
            if life == "first":
                plane.process.kill()
                plane.start()
                wait_until(lambda: counted(plane), 20, "the rule to be counted again")


SUITES = {"quota": rls, **quota_sidecars.SUITES}
