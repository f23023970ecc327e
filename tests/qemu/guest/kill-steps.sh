#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Test only: run kill_steps.py in the booted machine and hand its verdict line to the harness, with this run's nonce.
# Started by kill-steps.service when the kernel argument iscsiboot.kill-steps=ADDRESS:PORT is there.
set -eu

value() {
	sed -n "s/.*\(^\| \)$1=\([^ ]*\).*/\2/p" /proc/cmdline
}

for device in /sys/class/net/*; do
	name=${device##*/}
	[ "$name" = lo ] && continue
	ip link set "$name" up
	ip address add 10.0.2.15/24 dev "$name"
done
modprobe iscsi_tcp
iscsistart_ran=no
[ -e /run/iscsiboot/timeline.jsonl ] && iscsistart_ran=yes
export PYTHONPATH=/usr/lib/iscsiboot:/usr/libexec/iscsiboot-test
verdict=$(python3 -m tests.qemu.guest.kill_steps "$(value iscsiboot.kill-steps)" "$(value iscsiboot.target)" 1) || :
printf '{"nonce": "%s", "iscsistart_ran": "%s", "kill_steps": %s}\n' \
	"$(value iscsiboot.nonce)" "$iscsistart_ran" "${verdict:-null}" >/dev/virtio-ports/iscsiboot.verdict
systemctl --no-block poweroff
