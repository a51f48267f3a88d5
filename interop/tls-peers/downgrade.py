"""Who should not get through does not, and it is said who and why: plaintext to strict, certificates of every wrong
kind in both directions, old versions of TLS. Callers that are refused are openssl and plain sockets; callees that are
refused are `openssl s_server` behind a sidecar that wants TLS."""

import json
import re
import socket
import subprocess

import joined
import parties
import pki
import tls_peers
from harness import Failure, Workspace, accepts, free_ports, need, wait_until

OLD = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]


def bad_leaves(authority, other, app):
    """(what, certificate, what the sidecar has to say of it) for everything a certificate may have wrong."""
    sign, good = authority.sign, pki.spiffe(app)
    return [
        ("another authority's", other.app(app), r"(?i)unknown ?issuer|not trusted|unknown authority"),
        ("expired", sign(f"{app}-old", [good], since=-2 * pki.HOUR, until=-pki.HOUR), r"(?i)expired"),
        ("not valid yet", sign(f"{app}-early", [good], since=pki.HOUR), r"(?i)not ?valid ?yet|not yet valid"),
        ("of another trust domain", sign(f"{app}-far", [pki.spiffe(app, domain="other.test")]),
         r"(?i)other\.test|trust domain|ApplicationVerification|identity"),
        ("without any name", sign(f"{app}-bare"), r"(?i)SPIFFE|BadEncoding|identity|no id"),
        ("without a SPIFFE id", sign(f"{app}-dns", dns=["pay.test"]), r"(?i)SPIFFE|BadEncoding|identity|no id"),
        ("with two SPIFFE ids", sign(f"{app}-two", [good, pki.spiffe("shop", "u2")]),
         r"(?i)SPIFFE|BadEncoding|identity|two"),
    ]


def told_since(sidecar, seq):
    """Events after one, as text."""
    return "\n".join(json.dumps(event) for event in sidecar.events() if event["seq"] > seq)


def last_seq(sidecar):
    return max((event["seq"] for event in sidecar.events()), default=-1)


def plaintext(report, callee):
    """Nothing but TLS comes in, and each protocol says so in its own words."""
    rule = f"LinkEncryption/{parties.RULE}"
    # A rule is in force a moment after the sidecar is ready.
    wait_until(lambda: joined.request(callee.port, "/plain")[0] == 403, 10, "plaintext HTTP to be refused")
    status, headers, body = joined.request(callee.port, "/plain")
    if status != 403 or headers.get("x-raddle-reason") != "RBAC" or headers.get("x-raddle-rule") != rule:
        raise Failure(f"plaintext HTTP to strict: {status} {headers} {body}")
    with socket.create_connection(("127.0.0.1", callee.port), 5) as one:
        one.sendall(parties.bolt_request(7))
        number, code, fields, _ = parties.bolt_reply(one)
    if number != 7 or code == 0 or fields.get("raddle-reason") != "RBAC" or fields.get("raddle-rule") != rule:
        raise Failure(f"plaintext Bolt to strict: status {code}, {fields}")
    with socket.create_connection(("127.0.0.1", callee.port), 5) as one:
        one.sendall(b"\x00\x01\x02\x03 no protocol at all")
        try:
            said = one.recv(100)
        except ConnectionResetError:
            said = b""
    if said:
        raise Failure(f"plaintext bytes to strict were answered: {said!r}")

    def logged():
        return [one for one in callee.lines() if one.get("flag") == "RBAC" and rule in json.dumps(one)]

    lines = parties.appears(lambda: len(logged()) >= 2 and logged(), "both refusals in the access log")
    report.ok("downgrade plaintext", f"HTTP 403 and Bolt status {code} name RBAC and {rule}, unknown bytes end; "
                                     f"access log: {len(lines)} lines")


def callers(report, callee, leaves):
    """Certificates that are no good, and TLS 1.1: an alert to the caller, a count and a cause at the callee."""
    words = []
    cases = [(what, ["-cert", leaf.certificate, "-key", leaf.key], why) for what, leaf, why in leaves]
    cases += [("none", [], r"(?i)no certificate|NoCertificates|certificate ?required|sent no"),
              ("TLS 1.1", [*OLD, "-cert", callee.friend.certificate, "-key", callee.friend.key],
               r"(?i)version|PeerIncompatible|protocol")]
    for what, options, why in cases:
        before, seq = callee.failed(), last_seq(callee)

        def told():
            _, said = tls_peers.s_client(callee.port, *options, "-CAfile", callee.friend.roots)
            if tls_peers.served(said) or "HTTP/1.1" in said or not re.search(r"alert|wrong version|no protocols", said):
                raise Failure(f"a caller's certificate {what} was not refused by an alert: {said[-500:]}")
            return re.search(why, told_since(callee, seq))

        # Events of one address and kind within a second are one: the next try may be the one that is told.
        try:
            wait_until(told, 8, "an event")
        except Failure as error:
            text = told_since(callee, seq)
            raise Failure(f"a caller's certificate {what}: {error}; no event says why ({why}): {text[-800:]}") from None
        wait_until(lambda: callee.failed() > before, 5, f"a failed handshake to be counted: {what}")
        words.append(what)
    report.ok("downgrade callers", f"refused by an alert, counted, and told why in an event: {', '.join(words)}")


def callees(report, work, friend, good, leaves):
    """The same of callees: the request fails and says why."""
    wrong = [*leaves, ("of another app", good["shop"], r"app/shop|(?i:app|identity|ApplicationVerification)"),
             ("of another unit", good["pay-u2"], r"u2|(?i:unit|identity|ApplicationVerification)")]
    cases = [("good", good["pay"], None, [])] + [(what, leaf, why, []) for what, leaf, why in wrong]
    cases.append(("good but by TLS 1.1", good["pay"], r"(?i)version|PeerIncompatible|alert", OLD))
    words = []
    for index, (what, leaf, why, options) in enumerate(cases):
        port, = free_ports(1)
        server = work.start(f"s_server-{index}", [
            "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", leaf.certificate, "-key", leaf.key,
            "-CAfile", friend.roots, "-Verify", "3", "-verify_return_error", "-www", *options])
        wait_until(lambda port=port: accepts(port), 10, "openssl s_server")
        caller = parties.caller(work, friend, parties.service(port, "{required: true}"), name=f"shop-{index}")
        status, headers, body = joined.request(caller.port, "/", timeout=20)
        if why is None:
            if status != 200 or "Ciphers supported" not in body:
                raise Failure(f"a good callee was not called: {status} {headers} {body[:300]}")
        else:
            if status != 503 or headers.get("x-raddle-reason") != "UF":
                raise Failure(f"a callee's certificate {what}: {status} {headers} {body[:300]}")
            told = "\n".join([body, json.dumps(headers), told_since(caller, -1)])
            if not re.search(why, told):
                raise Failure(f"a callee's certificate {what}: nothing says why ({why}): {told[-1500:]}")
            if any(one.get("flag") != "UF" for one in caller.lines()):
                raise Failure(f"a callee's certificate {what}: access log {caller.lines()}")
            words.append(what)
        caller.process.stop()
        server.stop()
    report.ok("downgrade callees", f"a good one is called; not called, UF and the cause told: {', '.join(words)}")


def run(report):
    need("openssl")
    with Workspace("downgrade") as work, parties.App() as app:
        authority, other = pki.Authority(work.folder), pki.Authority(work.folder, "stranger")
        good = {"pay": authority.app("pay"), "pay-u2": authority.app("pay", "u2"), "shop": authority.app("shop")}
        callee = parties.callee(work, good["pay"], app.port, parties.encryption("strict", "force: true"))
        callee.friend = good["shop"]
        callee.failed = lambda: callee.counted("raddle_tls_handshakes_total", outcome="failed")
        groups = (("plaintext", lambda: plaintext(report, callee)),
                  ("callers", lambda: callers(report, callee, bad_leaves(authority, other, "shop"))),
                  ("callees", lambda: callees(report, work, good["shop"], good, bad_leaves(authority, other, "pay"))))
        for name, group in groups:
            try:
                group()
            except Failure as error:
                report.fail(f"downgrade {name}", error)


SUITES = {"downgrade": run}
