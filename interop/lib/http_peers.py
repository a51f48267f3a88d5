"""The real HTTP peers: the origin that notes what it was sent, nginx, and what they need."""

import peers
from harness import need

FOLDER = peers.ROOT / "http"
PYTHON = FOLDER / ".venv/bin/python"
READY_SECONDS = 15


def ready(*programs):
    """Installs the Python libraries; skips without the programs."""
    need(*programs)
    peers.virtual_environment(FOLDER)


def ready_node():
    peers.node_packages(FOLDER)


def start_origin(work, name, port):
    """The origin; its log of requests is `NAME.jsonl`."""
    log = work.folder / f"{name}.jsonl"
    origin = work.start(name, [PYTHON, FOLDER / "origin.py", name, port, log])
    origin.await_output(f"READY {name}", READY_SECONDS)
    return origin, log


NGINX = """daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}-error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
  server {{
    listen 127.0.0.1:{port}{http2};
    location / {{ default_type text/plain; return 200 "hello from {name}\\n"; }}
    location /grpc {{ default_type application/grpc; return 200 ""; }}
  }}
}}
"""


def start_nginx(work, name, port, http2=False, life=0):
    """nginx with one short page: a fast server of HTTP/1.1, or of HTTP/2 without TLS."""
    config = work.folder / f"{name}.conf"
    config.write_text(NGINX.format(folder=work.folder, name=name, port=port, http2=" http2" if http2 else ""))
    return work.start(f"{name}-{life}", ["nginx", "-c", config, "-p", work.folder, "-e", work.folder / f"{name}.err"])
