#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest both programs run in: modules, the targets, the agent, power off.
# Words "admin.ARGUMENT" of the kernel's command line become the agent's arguments, in their order.
# shellcheck source=tests/qemu/guest/process1.sh
. /process1.sh
begin virtio_net sd_mod
modprobe dummy numdummies=0
mkdir -p /peer
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
cd /harness || echo "guest: no harness"
# shellcheck disable=SC2046 # one word an argument
report tests.qemu.admin.agent $(words admin)
