#!/usr/bin/env bash
# The suites in which both sides are Java, and the disturbances.
exec "$(dirname "$0")/../run.sh" dubbo-java triple-java dubbo-reload triple-reload "$@"
