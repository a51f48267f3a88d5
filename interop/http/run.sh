#!/usr/bin/env bash
# The suites of HTTP and WebSocket.
exec "$(dirname "$0")/../run.sh" http1 http2 http-proxy http-tls ws-py-py ws-js-js ws-py-js ws-js-py http-reload http-kill "$@"
