#!/usr/bin/env bash
# The suites in which the caller is Java, and the disturbances.
exec "$(dirname "$0")/../run.sh" java-java java-node reload kill "$@"
