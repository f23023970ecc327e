#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Add the mark "root mounted" to this boot's timeline, with shell builtins only: a process costs 0.1 s under emulation.
# The first word of /proc/uptime is CLOCK_BOOTTIME in seconds, the clock of all other marks. A unit runs this file,
# dracut without systemd sources it: it never exits.

iscsiboot_timeline="${ISCSIBOOT_TIMELINE:-/run/iscsiboot/timeline.jsonl}"
if [ -e "$iscsiboot_timeline" ] && read -r iscsiboot_at _ < "${ISCSIBOOT_UPTIME:-/proc/uptime}"; then
    printf '{"mark": "root mounted", "at": %s, "detail": ""}\n' "$iscsiboot_at" >> "$iscsiboot_timeline"
fi
unset iscsiboot_timeline iscsiboot_at
