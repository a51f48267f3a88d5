#!/usr/bin/env bash
# The suite in which the caller is Node.
exec "$(dirname "$0")/../run.sh" dubbo-node "$@"
