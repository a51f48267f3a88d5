#!/usr/bin/env bash
# The suites in which the caller is Python.
exec "$(dirname "$0")/../run.sh" dubbo-python triple-python "$@"
