#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Process 1 of the guest open-iscsi is measured in: modules, network, iscsid, the contest, power off.
# Words "bench.ARGUMENT" of the kernel's command line become the contest's arguments, in their order.
# shellcheck source=tests/qemu/guest/process1.sh
. /process1.sh
begin virtio_net iscsi_tcp
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
iscsid || echo "guest: iscsid does not start"
cd /bench || echo "guest: no /bench"
# shellcheck disable=SC2046 # one word an argument
report benchmarks.initiator.contest $(words bench)
