#!/usr/bin/env bash
# The suites in which the caller is grpc-js.
exec "$(dirname "$0")/../run.sh" grpc-js-js grpc-js-py grpc-reload grpc-drain grpc-kill "$@"
