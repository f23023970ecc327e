#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest both programs run in: modules, the targets, the agent, power off.
# Words "admin.ARGUMENT" of the kernel's command line become the agent's arguments, in their order.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
for module in virtio_pci virtio_console virtio_rng virtio_net sd_mod; do
	modprobe "$module" || echo "guest: no module $module"
done
modprobe dummy numdummies=0
ip link set lo up
mkdir -p /run/lock/iscsi /peer
# The peer's programs move aside: /usr/sbin/iscsiadm is whichever has its round. The control says one word wrong.
mv /usr/sbin/iscsiadm /usr/sbin/iscsid /peer/
sed 's/No active sessions\./No active sessionz./' /peer/iscsiadm >/peer/control
chmod 755 /peer/control
mkdir -p /harness/start
cp -a /etc/iscsi/. /harness/start/
# Some commands go by the order of the directory. In memory that would be the order of creation; ext4 with a known seed
# has the same order for the same names, whoever created them.
modprobe loop
mount -t ext4 -o loop /harness/database.img /etc/iscsi || echo "guest: no ext4"
sh /harness/targets.sh || echo "guest: no targets"

# The port's name is only in sysfs: udev would make a link of it, and no udev runs here.
port=/dev/null
for name in /sys/class/virtio-ports/*/name; do
	read -r text <"$name"
	device=${name%/name}
	if [ "$text" = iscsiboot.verdict ]; then port=/dev/${device##*/}; fi
done
cd /harness || echo "guest: no harness"
arguments=$(tr ' ' '\n' </proc/cmdline | sed -n 's/^admin\.//p')
# shellcheck disable=SC2086 # one word an argument
python3 -m tests.qemu.admin.agent $arguments >"$port" || echo "guest: the agent failed"
echo o >/proc/sysrq-trigger
exec tail -f /dev/null
