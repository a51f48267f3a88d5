"""Certificates by `openssl`, good ones and bad ones: what the mesh's own authority would never sign is needed, too."""

import subprocess
import time

from harness import Failure

TRUST_DOMAIN = "mesh.test"
HOUR = 3600
AUTHORITY = """[req]
distinguished_name = name
prompt = no
x509_extensions = root
[name]
O = {name}
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
subjectAltName = URI:spiffe://{domain}
[ca]
default_ca = this
[this]
database = {folder}/index
new_certs_dir = {folder}
certificate = {folder}/root.pem
private_key = {folder}/root.key
rand_serial = yes
default_md = sha256
unique_subject = no
policy = any
[any]
organizationName = optional
"""
LEAF = """[req]
distinguished_name = name
prompt = no
[name]
O = mesh
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
authorityKeyIdentifier = keyid
{names}
"""


def openssl(*arguments, code=0):
    done = subprocess.run(["openssl", *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          errors="replace", timeout=30, check=False)
    if done.returncode != code:
        raise Failure(f"openssl {' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def spiffe(app, unit="u1", domain=TRUST_DOMAIN):
    return f"spiffe://{domain}/unit/{unit}/app/{app}"


class Leaf:
    """Certificate and key of one party, in files."""

    def __init__(self, certificate, key, roots):
        self.certificate, self.key, self.roots = certificate, key, roots

    def curl(self):
        return ["--cert", self.certificate, "--key", self.key, "--cacert", self.roots]

    def openssl(self):
        return ["-cert", self.certificate, "-key", self.key, "-CAfile", self.roots]


class Authority:
    """A root that signs whatever it is told to."""

    def __init__(self, folder, name="mesh", domain=TRUST_DOMAIN):
        self.folder = folder / f"ca-{name}"
        self.folder.mkdir()
        self.roots = self.folder / "root.pem"
        self.config = self.folder / "ca.conf"
        self.config.write_text(AUTHORITY.format(name=name, domain=domain, folder=self.folder))
        (self.folder / "index").write_text("")
        openssl("req", "-x509", "-config", self.config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", self.folder / "root.key", "-out", self.roots, "-days", "30")

    def sign(self, name, uris=(), dns=(), since=-HOUR, until=24 * HOUR):
        """A certificate with these names, valid between two times in seconds from now."""
        names = [f"URI:{uri}" for uri in uris] + [f"DNS:{one}" for one in dns]
        config, key, request, certificate = (self.folder / f"{name}.{end}" for end in ("conf", "key", "csr", "pem"))
        config.write_text(LEAF.format(names=f"subjectAltName = {', '.join(names)}" if names else ""))
        openssl("req", "-new", "-config", config, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", key, "-out", request)
        openssl("ca", "-batch", "-notext", "-config", self.config, "-extfile", config, "-extensions", "leaf",
                "-startdate", moment(since), "-enddate", moment(until), "-in", request, "-out", certificate)
        key.chmod(0o600)
        return Leaf(certificate, key, self.roots)

    def app(self, app, unit="u1", **more):
        """That of an app of the mesh."""
        return self.sign(f"{app}-{unit}", [spiffe(app, unit)], dns=["pay.test"], **more)


def moment(offset):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + offset))
