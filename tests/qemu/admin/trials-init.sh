#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest of the trials: modules, a cable to a storage machine that is a network namespace, udev, the
# trials, power off. Words "trial.NAME" of the kernel's command line are the only trials to make.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
for module in virtio_pci virtio_console virtio_rng sd_mod veth ext4 iscsi_tcp; do
	modprobe "$module" || echo "guest: no module $module"
done
ip link set lo up
mkdir -p /run/lock/iscsi /run/tgtd /disks
ip netns add storage
ip link add cable type veth peer name port netns storage
ip -n storage link set lo up
ip -n storage link set port up
ip -n storage address add 10.2.0.2/24 dev port
ip link set cable up
ip address add 10.2.0.1/24 dev cable
/lib/systemd/systemd-udevd --daemon
udevadm trigger --settle --subsystem-match=misc

# The port's name is only in sysfs when no rule of udev's made a link of it.
port=/dev/null
for name in /sys/class/virtio-ports/*/name; do
	read -r text <"$name"
	device=${name%/name}
	if [ "$text" = iscsiboot.verdict ]; then port=/dev/${device##*/}; fi
done
cd /harness || echo "guest: no harness"
trials=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^trial\.//p')
# shellcheck disable=SC2086 # one word a trial
python3 -m tests.qemu.admin.trials_agent $trials >"$port" || echo "guest: the agent failed"
echo o >/proc/sysrq-trigger
exec tail -f /dev/null
