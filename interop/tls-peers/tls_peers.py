"""openssl and curl as callers of a sidecar that is strict: who has a certificate of the mesh is served, by TLS 1.3 and
1.2, over HTTP/1.1 and HTTP/2; who has none, or another authority's, is not."""

import json
import subprocess

import joined
import parties
import pki
from harness import Failure, Workspace, need


def s_client(port, *options, text=None, seconds=10):
    """Sends an HTTP request by `openssl s_client`; exit code, and what it printed of both kinds."""
    text = text or f"GET /openssl HTTP/1.1\r\nHost: {parties.HOST}\r\nConnection: close\r\n\r\n"
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", parties.HOST, "-quiet",
               *map(str, options)]
    done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=seconds, check=False)
    return done.returncode, done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")


def served(said):
    return "200 OK" in said and '"path": "/openssl"' in said


def openssl(report, port, good, stranger):
    """The handshake, judged by openssl; then a request on it."""
    for version in ("-tls1_3", "-tls1_2"):
        code, said = s_client(port, *good.openssl(), version, "-verify_return_error")
        if code != 0 or not served(said):
            raise Failure(f"openssl s_client {version} ended with {code}: {said[-600:]}")
    for what, options in (("no certificate", ["-CAfile", good.roots]),
                          ("another authority's", ["-cert", stranger.certificate, "-key", stranger.key, "-CAfile",
                                                   good.roots])):
        for version in ("-tls1_3", "-tls1_2"):
            _, said = s_client(port, *options, version)
            if served(said) or "200" in said or "alert" not in said:
                raise Failure(f"openssl s_client {version} with {what} was not refused by an alert: {said[-600:]}")
    code, said = s_client(port, "-cert", good.certificate, "-key", good.key, "-CAfile", stranger.roots,
                          "-verify_return_error")
    if code == 0 or served(said):
        raise Failure(f"openssl trusted a certificate of an authority it does not know: {said[-600:]}")
    report.ok("tls-peers openssl", "TLS 1.3 and 1.2 verified and answered; without a certificate, and with another "
                                   "authority's, refused by an alert; the sidecar's is not trusted by other roots")


def curl(report, port, good, stranger):
    """curl checks host names, so the callee's certificate has one here."""
    url = f"https://{parties.HOST}:{port}"
    to = ["--resolve", f"{parties.HOST}:{port}:127.0.0.1"]
    form = ["-w", "\n%{http_version} %{http_code}"]
    for version, options, path in (("1.1", ["--http1.1"], "/one"), ("2", ["--http2"], "/two")):
        said = joined.curl(*to, *form, *options, *good.curl(), "-d", "x" * 5000, url + path)
        body, line = said.rsplit("\n", 1)
        seen = json.loads(body) if line.endswith(" 200") else {}
        if line != f"{version} 200" or seen["path"] != path or len(seen["body"]) != 5000:
            raise Failure(f"curl {options}: {line}, {body[:300]}")
    again = joined.curl(*to, *form, *good.curl(), "--connect-to", f"elsewhere.test:443:127.0.0.1:{port}", "-k",
                        "https://elsewhere.test/")
    if not again.endswith(" 200"):
        raise Failure(f"curl --connect-to: {again}")
    refused = [joined.curl(*to, "--cacert", good.roots, url, code=None),
               joined.curl(*to, "--cert", stranger.certificate, "--key", stranger.key, "--cacert", good.roots, url,
                           code=None),
               joined.curl(*to, "--cert", good.certificate, "--key", good.key, "--cacert", stranger.roots, url,
                           code=60)]
    report.ok("tls-peers curl", f"HTTP/1.1 and HTTP/2 with --cert --key --cacert; refused: {'; '.join(refused)}")


def run(report):
    need("openssl", "curl")
    with Workspace("tls-peers") as work, parties.App() as app:
        authority, other = pki.Authority(work.folder), pki.Authority(work.folder, "stranger")
        callee = parties.callee(work, authority.app("pay"), app.port, parties.encryption("strict", "force: true"),
                                fields=parties.HTTP1_APP)
        good, stranger = authority.app("shop"), other.app("shop")
        openssl(report, callee.port, good, stranger)
        curl(report, callee.port, good, stranger)


SUITES = {"tls-peers": run}
