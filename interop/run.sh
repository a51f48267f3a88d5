#!/usr/bin/env bash
# Runs the interop suites: all, or those named. See README.md.
exec python3 "$(dirname "$0")/lib/run.py" "$@"
