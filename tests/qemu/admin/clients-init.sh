#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest where os-brick and libvirt run: modules, the targets, udev, the clients, power off.
# shellcheck source=tests/qemu/guest/process1.sh
. /process1.sh
begin sd_mod dm_multipath
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
modprobe dummy numdummies=0
sh /harness/targets.sh || echo "guest: no targets"
# libvirtd ends when its driver for machines has no user to run them as; only the one for storage is wanted.
for driver in qemu network nwfilter interface nodedev; do
	rm "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_$driver.so"
done
udev
iscsid || echo "guest: iscsid does not start"
cd /harness || echo "guest: no harness"
export PYTHONPATH=/harness:/clients
report tests.qemu.admin.clients_agent
