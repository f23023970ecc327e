#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest of the trials: modules, a cable to a storage machine that is a network namespace, udev, the
# trials, power off. Words "trial.NAME" of the kernel's command line are the only trials to make.
# shellcheck source=tests/qemu/guest/process1.sh
. /process1.sh
begin sd_mod veth ext4 iscsi_tcp
mkdir -p /run/tgtd /disks
cable
udev
# These are about iscsiadm alone, as in an initramfs; Debian's setting would have it ask for a daemon.
sed -i '/^iscsid.startup/d' /etc/iscsi/iscsid.conf
cd /harness || echo "guest: no harness"
# shellcheck disable=SC2046 # one word a trial
report tests.qemu.admin.trials_agent $(words trial)
