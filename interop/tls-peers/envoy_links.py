"""Envoy as the far side, under strict: a sidecar calls an Envoy, an Envoy calls a sidecar. Envoy's certificates come
from a sidecar's socket by SDS, those of all from the control plane's authority."""

import json

import joined
import parties
import xds_suites
from harness import Failure, Workspace, free_ports, need, wait_until

SHOP, PAY = f"spiffe://{joined.DOMAIN}/unit/u1/app/shop", f"spiffe://{joined.DOMAIN}/unit/u1/app/pay"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def options(version):
    return {OPTIONS: {"@type": f"type.googleapis.com/{OPTIONS}",
                      "explicit_http_config": {f"http{'2_' if version == 2 else '_'}protocol_options": {}}}}


def secrets(peer, own=True):
    """Certificate and roots by SDS; the other side must be this identity."""
    source = {"resource_api_version": "V3", "api_config_source": {
        "api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "sds"}}]}}
    context = {"combined_validation_context": {
        "default_validation_context": {"match_typed_subject_alt_names": [
            {"san_type": "URI", "matcher": {"exact": peer}}]},
        "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": source}}}
    if own:
        context["tls_certificate_sds_secret_configs"] = [{"name": "default", "sds_config": source}]
    return context


def listener(name, port, action, transport=None):
    """One that does `action` with every request."""
    chain = {"filters": [{"name": "http", "typed_config": {
        "@type": HTTP, "stat_prefix": name, "codec_type": "AUTO",
        "forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"uri": True},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, **action}]}]}}}]}
    if transport:
        chain["transport_socket"] = transport
    return {"name": name, "address": xds_suites.address(port), "filter_chains": [chain]}


def cluster(name, port, version=1, transport=None):
    one = {"name": name, "type": "STATIC", "connect_timeout": "2s", "typed_extension_protocol_options": options(version),
           "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
               {"endpoint": {"address": xds_suites.address(port)}}]}]}}
    if transport:
        one["transport_socket"] = transport
    return one


def start(work, name, sds, listeners, clusters):
    """An Envoy on a static configuration, with an agent's socket for its secrets."""
    admin, = free_ports(1)
    pipe = {"name": "sds", "type": "STATIC", "connect_timeout": "2s", "typed_extension_protocol_options": options(2),
            "load_assignment": {"cluster_name": "sds", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"pipe": {"path": str(sds)}}}}]}]}}
    path = work.folder / f"{name}.json"
    path.write_text(json.dumps({"node": {"id": name, "cluster": name}, "admin": {"address": xds_suites.address(admin)},
                                "static_resources": {"listeners": listeners, "clusters": [pipe, *clusters]}}))
    process = work.start(name, ["envoy", "-c", path, "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"])

    def live():
        if not process.alive():
            process.finish(1)
        try:
            return "LIVE" in xds_suites.page(admin, "/ready")
        except OSError:
            return False

    wait_until(live, 30, f"{name} to be live")
    return admin


def eventually(port, path, wanted, what, headers=None):
    """The first answer that is as wanted: secrets and rules take a moment."""
    last = []

    def right():
        try:
            last[:] = [joined.request(port, path, headers)]
        except OSError as error:
            last[:] = [(0, {}, str(error))]
        return wanted(*last[0])

    try:
        wait_until(right, 20, what)
    except Failure as error:
        raise Failure(f"{error}; the last answer: {last[0]}") from None
    return last[0]


def callee(report, work, plane):
    """A sidecar of shop calls an Envoy that is pay, and wants shop's certificate; fraud's gets nowhere."""
    port, = free_ports(1)
    with parties.App() as app:
        start(work, "envoy-pay", joined.agent(work, plane, "pay"), [
            listener("strict", port, {"route": {"cluster": "app"}}, {
                "name": "tls", "typed_config": {"@type": f"{TLS}.DownstreamTlsContext",
                                                "require_client_certificate": True,
                                                "common_tls_context": {**secrets(SHOP),
                                                                       "alpn_protocols": ["h2", "http/1.1"]}}}),
        ], [cluster("app", app.port)])
        for protocol in ("http", "http2"):
            shop = parties.caller(work, None, parties.service(port, "{required: true}", protocol=protocol),
                                  name=f"shop-{protocol}", more=[plane.joins("shop")])
            _, _, body = eventually(shop.port, "/to-envoy", lambda code, *_: code == 200, f"Envoy's answer, {protocol}")
            seen = json.loads(body)["headers"].get("x-forwarded-client-cert", "")
            if f"URI={SHOP}" not in seen:
                raise Failure(f"Envoy did not see who calls: {seen!r}")
        fraud = parties.caller(work, None, parties.service(port, "{required: true}"), name="fraud-1",
                               app="fraud", more=[plane.joins("fraud")])
        # Its certificate is the mesh's, but Envoy wants shop's.
        code, headers, body = joined.request(fraud.port, "/", timeout=20)
        if code != 503 or headers.get("x-raddle-reason") not in ("UF", "UC"):
            raise Failure(f"Envoy let another app in: {code} {headers} {body[:300]}")
        report.ok("envoy callee", f"HTTP/1.1 and HTTP/2 to an Envoy that demands {SHOP}; another app: "
                                  f"{headers['x-raddle-reason']}")


def caller(report, work, plane):
    """An Envoy that is shop calls a strict sidecar of pay, over HTTP/1.1 and HTTP/2; without a certificate it fails."""
    with parties.App() as app:
        pay = parties.callee(work, None, app.port, fields=parties.HTTP1_APP, more=[plane.joins("pay")])
        ports = free_ports(3)
        transports = [{"name": "tls", "typed_config": {"@type": f"{TLS}.UpstreamTlsContext", "sni": parties.HOST,
                                                       "common_tls_context": {**secrets(PAY, own), **alpn}}}
                      for own, alpn in ((True, {}), (True, {"alpn_protocols": ["h2"]}), (False, {}))]
        names = ("one", "two", "bare")
        start(work, "envoy-shop", joined.agent(work, plane, "shop"),
              [listener(name, port, {"route": {"cluster": name}}) for name, port in zip(names, ports)],
              [cluster(name, pay.port, 2 if name == "two" else 1, transport)
               for name, transport in zip(names, transports)])
        plane.apply(parties.encryption("strict", "force: true", "scope: {apps: [pay]}"))
        eventually(pay.port, "/plain", lambda code, *_: code == 403, "plaintext to be refused")
        for port in ports[:2]:
            _, _, body = eventually(port, "/from-envoy", lambda code, *_: code == 200, "the sidecar's answer to Envoy")
            if json.loads(body)["path"] != "/from-envoy":
                raise Failure(f"another answer: {body[:300]}")
        code, _, body = eventually(ports[2], "/bare", lambda code, *_: code == 503, "Envoy without a certificate to fail")
        report.ok("envoy caller", f"HTTP/1.1 and HTTP/2 from an Envoy with {SHOP} to a strict sidecar; without a "
                                  f"certificate: {code} {body[:80].strip()}")


def run(report):
    need("envoy", "openssl")
    with Workspace("envoy-links") as work:
        plane = joined.Plane(work)
        callee(report, work, plane)
        caller(report, work, plane)


SUITES = {"envoy-links": run}
