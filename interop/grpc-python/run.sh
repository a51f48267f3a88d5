#!/usr/bin/env bash
# The suites in which the caller is grpcio.
exec "$(dirname "$0")/../run.sh" grpc-py-py grpc-py-js "$@"
