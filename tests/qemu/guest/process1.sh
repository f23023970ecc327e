# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# What process 1 of every guest without a disk does first and last; `init` sources it from beside itself.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 HOME=/root

begin() { # MODULE...: file systems, the machine's own modules and these, the loopback interface
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	mount -t tmpfs tmpfs /run
	mount -t tmpfs tmpfs /tmp
	for module in virtio_pci virtio_console virtio_rng "$@"; do
		modprobe "$module" || echo "guest: no module $module"
	done
	ip link set lo up
	mkdir -p /run/lock/iscsi
}

cable() { # a storage machine, 10.2.0.2, that is a network namespace at the other end of a cable
	ip netns add storage
	ip link add cable type veth peer name port netns storage
	ip -n storage link set lo up
	ip -n storage link set port up
	ip -n storage address add 10.2.0.2/24 dev port
	ip link set cable up
	ip address add 10.2.0.1/24 dev cable
}

udev() { # devices and their links, as on a whole system
	/lib/systemd/systemd-udevd --daemon
	udevadm trigger --settle --subsystem-match=misc
}

words() { # PREFIX: the words PREFIX.WORD of the kernel's command line, in their order
	tr ' ' '\n' </proc/cmdline | sed -n "s/^$1\.//p"
}

report() { # MODULE ARGUMENT...: run it; what it writes is for the harness. The guest ends with it
	# The port's name is only in sysfs when no rule of udev's made a link of it.
	port=/dev/null
	for name in /sys/class/virtio-ports/*/name; do
		read -r text <"$name"
		device=${name%/name}
		if [ "$text" = iscsiboot.verdict ]; then port=/dev/${device##*/}; fi
	done
	python3 -W ignore -m "$@" >"$port" || echo "guest: the agent failed"
	echo o >/proc/sysrq-trigger
	exec tail -f /dev/null
}
