#!/bin/sh
# Runs Python with the user, the rights and the settings of the worker's unit, for instance
# `validibot-maintenance -m maintenance check`.
set -eu
unit=/etc/systemd/system/validibot-maintenance-worker.service
lines=$(sed -n '/^\[Service\]$/,$p' "$unit" \
    | grep -E '^[A-Z]' | grep -Ev '^(ExecStart|KillMode|Restart|RestartSec|TimeoutStopSec|Type)=')
set -- /opt/validibot-maintenance/venv/bin/python "$@"
while read -r line; do
    set -- "--property=$line" "$@"
done <<LINES
$(printf '%s\n' "$lines" | tac)
LINES
exec systemd-run --quiet --pipe --wait --collect "$@"
