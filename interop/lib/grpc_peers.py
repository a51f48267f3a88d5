"""The real gRPC peers: grpcio for Python and grpc-js for Node."""

import peers

PYTHON = peers.ROOT / "grpc-python"
NODE = peers.ROOT / "grpc-node"
PROTO = peers.ROOT / "lib" / "echo.proto"
GENERATED = PYTHON / "generated"
SETTINGS = {"PYTHONPATH": str(GENERATED), "PYTHONUNBUFFERED": "1", "GRPC_VERBOSITY": "ERROR",
            # Whatever proxy the machine has is not between the peers.
            "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}


def ready_python():
    """Installs grpcio and generates the messages, unless nothing changed since."""
    python = peers.virtual_environment(PYTHON)
    made = GENERATED / "echo_pb2_grpc.py"
    if not made.exists() or made.stat().st_mtime < PROTO.stat().st_mtime:
        GENERATED.mkdir(exist_ok=True)
        peers.build("grpc-python", [str(python), "-m", "grpc_tools.protoc", f"-I{PROTO.parent}",
                                    f"--python_out={GENERATED}", f"--grpc_python_out={GENERATED}", str(PROTO)], PYTHON)


def ready_node():
    peers.node_packages(NODE)


READY = {"py": ready_python, "js": ready_node}


def command(language, program, *arguments):
    """What runs `server`, `client` or `load` in a language."""
    if language == "py":
        return [PYTHON / ".venv/bin/python", PYTHON / f"{program}.py", *arguments]
    return ["node", NODE / "src" / f"{program}.js", *arguments]


def start_server(work, language, name, port, narrow=0):
    server = work.start(name, command(language, "server", name, port, narrow), SETTINGS)
    server.await_output(f"READY {name}", peers.START_SECONDS)
    return server


def run_client(work, language, name, out, target, narrow):
    work.start(name, command(language, "client", out, target, narrow), SETTINGS).finish(120)
