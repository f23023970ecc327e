#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest where os-brick and libvirt run: modules, the targets, udev, the clients, power off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -p /run/lock/iscsi /dev/shm
mount -t tmpfs tmpfs /dev/shm
for module in virtio_pci virtio_console virtio_rng sd_mod dm_multipath; do
	modprobe "$module" || echo "guest: no module $module"
done
ip link set lo up
modprobe dummy numdummies=0
sh /harness/targets.sh || echo "guest: no targets"
# libvirtd ends when its driver for machines has no user to run them as; only the one for storage is wanted.
for driver in qemu network nwfilter interface nodedev; do
	rm "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_$driver.so"
done
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
PYTHONPATH=/harness:/clients python3 -W ignore -m tests.qemu.admin.clients_agent >"$port" || echo "guest: the agent failed"
echo o >/proc/sysrq-trigger
exec tail -f /dev/null
