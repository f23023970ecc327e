#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut without systemd, hook initqueue: wait for what iscsiboot-start.sh began. A failure ends in dracut's emergency
# path at once, with iscsistart's own line already on the console. Sourced by dracut's init.

if [ -n "$iscsiboot_pid" ]; then
    wait "$iscsiboot_pid"
    iscsiboot_status=$?
    iscsiboot_pid=
    if [ "$iscsiboot_status" -ne 0 ]; then
        emergency_shell "iscsiboot: no root disk (iscsistart ended with status $iscsiboot_status)"
    fi
    unset iscsiboot_status
fi
