#!/usr/bin/env bash
# The suites in which the caller is Node.
exec "$(dirname "$0")/../run.sh" node-node node-java "$@"
