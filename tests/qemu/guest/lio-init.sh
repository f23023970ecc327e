#!/bin/busybox sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=dash
# The first and only program of the guest that is an LIO target: modules, an address, the targets, then it waits.
# Everything is in memory; /targets.sh and /nonce are this run's (tests/qemu/harness/lio.py).
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1

# The harness ends with the first of these two lines. Our console shares the line with the kernel's: hence the empty one.
fail() {
	dmesg | tail -n 30
	printf '\nlio: failed %s: %s\n' "$(cat /nonce)" "$1"
	poweroff -f
}

while read -r module; do
	insmod "/modules/$module" || fail "$module"
done </modules/order
mount -t configfs configfs /sys/kernel/config || fail configfs
ip link set lo up
ip address add 10.0.2.15/24 dev eth0 || fail "the NIC"
ip link set eth0 up
ip route add default via 10.0.2.2
sh -eu /targets.sh || fail targets.sh
printf '\nlio: ready %s\n' "$(cat /nonce)"

# A target stays until its console says otherwise; the harness just ends QEMU.
read -r _
poweroff -f
