#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest of the daemon's trials and of its benchmark: modules, the cable to the storage machine, LIO's
# configuration file system, the agent, power off. The word "agent.MODULE" of the kernel's command line is the agent,
# words "trial.NAME" are its arguments.
# shellcheck source=tests/qemu/guest/process1.sh
. /process1.sh
begin sd_mod veth ext4 sch_netem dm_multipath iscsi_tcp target_core_mod iscsi_target_mod
mount -t configfs configfs /sys/kernel/config || echo "guest: no configfs"
mkdir -p /sys/kernel/config/target/iscsi
cable
# Debian's unit would be started through it, and nothing of systemd runs here.
sed -i '/^iscsid.startup/d' /etc/iscsi/iscsid.conf
cd /harness || echo "guest: no harness"
# shellcheck disable=SC2046 # one word an argument
report $(words agent) $(words trial)
