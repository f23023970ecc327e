#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest open-iscsi is measured in: modules, network, iscsid, the contest, power off.
# Words "bench.ARGUMENT" of the kernel's command line become the contest's arguments, in their order.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
for module in virtio_pci virtio_net virtio_console virtio_rng iscsi_tcp; do
	modprobe "$module" || echo "guest: no module $module"
done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
mkdir -p /run/lock/iscsi
iscsid || echo "guest: iscsid does not start"

# The port's name is only in sysfs: udev would make a link of it, and no udev runs here.
port=/dev/null
for name in /sys/class/virtio-ports/*/name; do
	read -r text <"$name"
	device=${name%/name}
	if [ "$text" = iscsiboot.verdict ]; then port=/dev/${device##*/}; fi
done
cd /bench || echo "guest: no /bench"
arguments=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^bench\.//p')
# shellcheck disable=SC2086 # one word an argument
python3 -m benchmarks.initiator.contest $arguments >"$port" || echo "guest: the contest failed"
echo o >/proc/sysrq-trigger
exec tail -f /dev/null
