"""The real peers: how they are built, and how their servers and clients are started."""

import shutil
import subprocess
import sys
from pathlib import Path

from harness import Failure, Skip, need

ROOT = Path(__file__).resolve().parent.parent
JAVA = ROOT / "sofa-java"
NODE = ROOT / "sofa-node"

# SOFA's Hessian and tracing reach into these packages by reflection, which JDK 17 forbids by default.
OPENED = ("java.lang", "java.util", "java.math", "java.lang.reflect", "java.time", "java.net")
JAVA_OPTIONS = (
    ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    + [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
    # SOFABolt's default is 15 s: with this, three missed heartbeats show within a second.
    + ["-Dbolt.tcp.heartbeat.interval=200", "-Dfile.encoding=UTF-8"]
)
START_SECONDS = 60


def build(name, command, cwd):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600)
    if done.returncode != 0:
        raise Failure(f"{name}: {' '.join(command)} failed:\n{done.stdout[-3000:]}")


def newest(*places):
    """The latest change among files and folders of files."""
    files = [f for place in places for f in ([place] if place.is_file() else place.rglob("*")) if f.is_file()]
    return max(f.stat().st_mtime for f in files)


def ready_java():
    ready_maven(JAVA, [ROOT / "lib" / "shop.proto"])


def ready_maven(folder, sources):
    """Compiles a Java peer and collects its libraries, unless nothing changed since; `sources`: besides its own."""
    need("java", "mvn")
    stamp = folder / "target" / "built"
    if stamp.exists() and stamp.stat().st_mtime > newest(folder / "src", folder / "pom.xml", *sources):
        return
    shutil.rmtree(folder / "target", ignore_errors=True)
    maven = ["mvn", "-q", "-B", "process-classes"]
    try:
        # Everything may be in the local repository already: then no registry is asked.
        build(folder.name, [*maven, "-o"], folder)
    except Failure:
        build(folder.name, maven, folder)
    stamp.touch()


def ready_node():
    node_packages(NODE)


def node_packages(folder):
    """Installs a Node peer's packages, exactly as locked."""
    need("node", "npm")
    installed = folder / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (folder / "package-lock.json").stat().st_mtime:
        build(folder.name, ["npm", "ci", "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
        installed.touch()


def virtual_environment(folder):
    """Installs a Python peer's packages into an environment of its own; the interpreter."""
    wanted, stamp, python = folder / "requirements.txt", folder / ".venv" / "installed", folder / ".venv/bin/python"
    if not stamp.exists() or stamp.stat().st_mtime < wanted.stat().st_mtime:
        if subprocess.run([sys.executable, "-c", "import ensurepip"], capture_output=True, check=False).returncode:
            raise Skip("python3 has no venv (Debian: python3-venv)")
        shutil.rmtree(folder / ".venv", ignore_errors=True)
        build(folder.name, [sys.executable, "-m", "venv", str(folder / ".venv")], folder)
        build(folder.name, [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check",
                            "-r", str(wanted)], folder)
        stamp.touch()
    return python


def java(main, *arguments):
    classpath = f"{JAVA / 'target/classes'}:{JAVA / 'target/lib'}/*"
    return ["java", *JAVA_OPTIONS, "-cp", classpath, f"io.raddle.interop.{main}", *map(str, arguments)]


def start_java_server(work, name, rpc_port, raw_port=0):
    server = work.start(name, java("server.Provider", rpc_port, raw_port, name))
    server.await_output(f"READY {name}", START_SECONDS)
    return server


def start_node_server(work, name, port):
    server = work.start(name, ["node", NODE / "src/server.js", port, name])
    server.await_output(f"READY {name}", START_SECONDS)
    return server


def run_java_client(work, name, out, peer, rpc_port, raw_port):
    addresses = [f"127.0.0.1:{port}" for port in (rpc_port, raw_port) if port]
    work.start(name, java("client.Consumer", out, peer, *addresses)).finish(120)


def run_node_client(work, name, out, peer, rpc_port):
    work.start(name, ["node", NODE / "src/client.js", out, peer, rpc_port]).finish(60)
