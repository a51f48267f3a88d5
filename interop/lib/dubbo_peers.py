"""The real Dubbo peers: Dubbo for Java, apache-dubbo-js, dubbo-ssl-python and apache-dubbo for Python."""

import sys

import peers
from harness import Failure, Skip

JAVA = peers.ROOT / "dubbo-java"
NODE = peers.ROOT / "dubbo-node"
PYTHON = peers.ROOT / "dubbo-python"
MESSAGES = JAVA / "target" / "python"
# Dubbo's Hessian reaches into these packages by reflection, which JDK 17 forbids by default.
OPENED = ("java.lang", "java.util", "java.math", "java.lang.reflect", "java.time", "java.net")
OPTIONS = (
    ["-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]
    + [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
)
# Dubbo replaces 127.0.0.1 in an address by the machine's own, at which no sidecar of these listens.
CALLER_OPTIONS = [f"-Djdk.net.hosts.file={JAVA / 'hosts'}"]
HOST = "loopback.test"
PYTHON_SETTINGS = {"PYTHONUNBUFFERED": "1"}


def ready_java():
    peers.ready_maven(JAVA, [JAVA / "proto"])


def ready_node():
    peers.node_packages(NODE)


def ready_python():
    """Installs both libraries, and makes the messages with the compiler that Maven fetched."""
    if sys.version_info < (3, 11):
        raise Skip("apache-dubbo needs Python 3.11")
    ready_java()
    peers.virtual_environment(PYTHON)
    made, proto = MESSAGES / "shop_pb2.py", JAVA / "proto" / "shop.proto"
    if made.exists() and made.stat().st_mtime > proto.stat().st_mtime:
        return
    compilers = sorted((JAVA / "target" / "protoc-plugins").glob("protoc-*.exe"))
    if not compilers:
        raise Failure("Maven left no protoc in dubbo-java/target/protoc-plugins")
    MESSAGES.mkdir(parents=True, exist_ok=True)
    peers.build("dubbo-python", [str(compilers[0]), f"-I{proto.parent}", f"--python_out={MESSAGES}", str(proto)], JAVA)


def java(main, *arguments, options=()):
    classpath = f"{JAVA / 'target/classes'}:{JAVA / 'target/lib'}/*"
    return ["java", *OPTIONS, *options, "-cp", classpath, f"io.raddle.interop.dubbo.{main}", *map(str, arguments)]


def python(program, *arguments):
    return [PYTHON / ".venv/bin/python", PYTHON / "src" / program, *arguments]


def start_java_server(work, name, dubbo_port, triple_port, await_ready=True):
    """A provider of both protocols, or of one where the other's port is 0."""
    server = work.start(name, java("server.Provider", dubbo_port, triple_port, "server"))
    if await_ready:
        server.await_output("READY server", peers.START_SECONDS)
    return server


def start_python_server(work, name, port):
    server = work.start(name, python("triple_server.py", port, MESSAGES), PYTHON_SETTINGS)
    server.await_output("READY", peers.START_SECONDS)
    return server


def run_java_client(work, name, out, *cases):
    """`cases`: arguments of Consumer; ports are turned into addresses."""
    shown = [f"{HOST}:{one}" if isinstance(one, int) else one for one in cases]
    work.start(name, java("client.Consumer", out, *shown, options=CALLER_OPTIONS)).finish(120)


def run_node_client(work, name, out, what, port):
    work.start(name, ["node", NODE / "src/client.js", out, what, port]).finish(60)


def run_dubbo_python_client(work, name, out, what, port):
    work.start(name, python("dubbo_client.py", out, what, port), PYTHON_SETTINGS).finish(60)


def run_triple_python_client(work, name, out, what, java_port, python_port):
    work.start(name, python("triple_client.py", out, what, java_port, python_port, MESSAGES),
               PYTHON_SETTINGS).finish(90)


def start_load(work, scheme, port, threads, seconds):
    load = work.start("load", java("client.Load", scheme, f"{HOST}:{port}", threads, seconds, options=CALLER_OPTIONS))
    load.await_output("STARTED", peers.START_SECONDS)
    return load
