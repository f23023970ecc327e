#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The targets of the guest, on addresses of its own: seven on two portals and an IPv6 one, three on a portal that wants
# CHAP for discovery too. Nobody listens on 10.1.0.1:3269. The secrets are this test's only.
set -eu
[ -d /sys/class/net/dummy0 ] || ip link add dummy0 type dummy
ip link set dummy0 up
ip address add 10.1.0.1/24 dev dummy0
ip address add 10.1.0.2/24 dev dummy0
ip address add fd00:15c5::1/64 dev dummy0 nodad
mkdir -p /run/tgtd /disks

start() { # CONTROL PORTALS: on a busy machine tgtd answers some time after it left the foreground
	tgtd -C "$1" --iscsi "$2"
	control=$1
	tries=0
	until admin --mode target --op show >/dev/null 2>&1; do
		tries=$((tries + 1))
		test $tries -lt 100
		sleep 0.2
	done
}
admin() { tgtadm -C "$control" --lld iscsi "$@"; }
disk() { # TID LUN MIB: an empty disk
	truncate -s "$3M" "/disks/$control-$1-$2"
	admin --mode logicalunit --op new --tid "$1" --lun "$2" --backing-store "/disks/$control-$1-$2"
}
target() { # TID NAME: one target anybody may log in to
	admin --mode target --op new --tid "$1" --targetname "iqn.2026-01.org.example:$2"
	admin --mode target --op bind --tid "$1" --initiator-address ALL
}
account() { # NAME SECRET
	admin --mode account --op new --user "$1" --password "$2"
}

start 1 "portal=10.1.0.1:3260,portal=10.1.0.2:3260,portal=[fd00:15c5::1]:3260"
account machine initiator-secret
account storage target-secret-1
target 1 one
disk 1 1 8
target 2 two
disk 2 1 8
disk 2 2 8
target 3 chap
disk 3 1 8
admin --mode account --op bind --tid 3 --user machine
target 4 mutual
disk 4 1 8
admin --mode account --op bind --tid 4 --user machine
admin --mode account --op bind --tid 4 --user storage --outgoing
target 5 empty
target 6 many
for lun in 1 2 3 4 5; do disk 6 $lun 8; done
admin --mode target --op new --tid 7 --targetname iqn.2026-01.org.example:closed
admin --mode target --op bind --tid 7 --initiator-address 192.0.2.1

start 2 "portal=10.1.0.1:3261"
account reader discovery-secret
account writer other-secret-12
admin --mode account --op bind --user reader
admin --mode account --op bind --user writer --outgoing
account machine initiator-secret
account storage target-secret-1
tid=0
for name in guarded archive obsolete; do
	tid=$((tid + 1))
	target $tid $name
	disk $tid 1 8
	admin --mode account --op bind --tid $tid --user machine
	admin --mode account --op bind --tid $tid --user storage --outgoing
done
