"""The REST API, fuzzed from its own OpenAPI document by schemathesis."""

import os
import subprocess
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "lib"))

from harness import Failure, Skip, Workspace, tail, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
VERSION = "4.32.5"
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance,content_type_conformance"


def binary():
    named = os.environ.get("RADDLE_BIN")
    built = [Path(named)] if named else [ROOT / "target" / kind / "raddle" for kind in ("release", "debug")]
    for path in built:
        if path.exists():
            return path.resolve()
    raise Skip("no raddle binary: cargo build -p raddle-cli, or set RADDLE_BIN")


def schemathesis():
    """The tool, in an environment of its own."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / f"raddle-interop/schemathesis-{VERSION}"
    tool = folder / "bin" / "schemathesis"
    if not tool.exists():
        made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True)
        if made.returncode:
            raise Skip(f"no virtual environment: {made.stderr.strip()}")
        got = subprocess.run([folder / "bin" / "pip", "-q", "install", f"schemathesis=={VERSION}"],
                             capture_output=True, text=True)
        if got.returncode:
            raise Skip(f"schemathesis cannot be installed: {got.stderr.strip()[-300:]}")
    return tool


def fuzz(report):
    tool, raddle = schemathesis(), binary()
    with Workspace("api") as space:
        control = space.start("control", [
            raddle, "control", "--store", space.folder / "control.db", "--no-auth", "--grpc-listen", "127.0.0.1:0",
            "--tls-listen", "off", "--rest-listen", "127.0.0.1:0"])
        control.await_output("serving ", 30)
        line = next(one for one in control.output().splitlines() if one.startswith("serving "))
        rest = next(word.removeprefix("rest=") for word in line.split() if word.startswith("rest="))
        # The watch never ends; its own test reads it.
        fuzzing = space.start("schemathesis", [
            tool, "run", f"http://{rest}/openapi.json", "--checks", CHECKS, "--exclude-path", "/v1/watch",
            "--max-examples", os.environ.get("FUZZ_EXAMPLES", "30"), "--no-color"])
        wait_until(lambda: not fuzzing.alive(), 280, "schemathesis to end")
        if fuzzing.popen.returncode:
            raise Failure(f"schemathesis found failures:\n{tail(fuzzing.log)}")
        if not control.alive():
            raise Failure("the control plane ended while it was fuzzed")
    report.ok("api", f"schemathesis {VERSION}: {CHECKS}")
