#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Check that this machine can run `make demo` or `make check`, and install the Debian packages that are missing.
#
#   setup.sh demo|check
#
# A fresh machine has no Python, so this is sh. One line says what is wrong; exit status 1 then, 2 for wrong usage.
# For its test the files it reads can be named: SETUP_OS_RELEASE, SETUP_MEMINFO, SETUP_POLICY.
set -eu

memory_needed_mib=2048
disk_needed_mib=6144
disk_needed_cached_mib=2560

# The laboratory: emulator with firmware, Debian tree, target, ext4, namespaces; what `make install` looks for.
demo_packages="qemu-system-x86 ipxe-qemu seabios mmdebstrap tgt e2fsprogs util-linux mount procps python3 make \
python3-pyroute2 python3-pyudev python3-pyelftools"
# Every test level: peers and linters, and the tools that make what `iscsiboot probe` has to recognise on a disk.
check_packages="python3-venv iproute2 nftables time dnsmasq-base shellcheck zstd cpio binutils git tshark istgt \
libiscsi-bin busybox-static fdisk gdisk dosfstools mtools xfsprogs btrfs-progs f2fs-tools ntfs-3g cryptsetup-bin \
squashfs-tools erofs-utils xorriso grub-pc-bin syslinux-common zsh fish"

fail() {
	printf 'iscsiboot: %s\n' "$1" >&2
	exit 1
}

# One number of a file in the form of /proc/meminfo, in MiB.
available_mib() {
	awk '$1 == "MemAvailable:" { print int($2 / 1024) }' "${SETUP_MEMINFO:-/proc/meminfo}"
}

# The nearest directory at or above $1 that exists.
existing() {
	directory=$1
	while [ ! -d "$directory" ]; do
		directory=$(dirname "$directory")
	done
	printf '%s\n' "$directory"
}

check_machine() {
	[ "$(id -u)" -eq 0 ] || fail "this needs root (chroot, namespaces, packages): run it as root or with sudo"

	os_release=${SETUP_OS_RELEASE:-/etc/os-release}
	os=$(sed -n 's/^ID=//p' "$os_release" 2>/dev/null | tr -d '"') || os=
	version=$(sed -n 's/^VERSION_ID=//p' "$os_release" 2>/dev/null | tr -d '"') || version=
	[ "$os $version" = "debian 12" ] || fail "this needs Debian 12 (found: ${os:-unknown} ${version:-})"
	[ "$(uname -m)" = x86_64 ] || fail "this needs an x86_64 machine (found: $(uname -m))"

	memory=$(available_mib)
	[ "${memory:-0}" -ge "$memory_needed_mib" ] ||
		fail "this needs $memory_needed_mib MiB of free memory (available: ${memory:-unknown} MiB)"

	cache=${XDG_CACHE_HOME:-$HOME/.cache}/iscsiboot
	needed=$disk_needed_mib
	for entry in "$cache"/base-*; do
		if [ -d "$entry" ]; then needed=$disk_needed_cached_mib; fi
	done
	place=$(existing "$cache")
	free=$(df -Pk "$place" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$needed" ] || fail "this needs $needed MiB of free disk space at $place (available: $free MiB)"
}

missing_packages() {
	for package in "$@"; do
		state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || state=
		[ "$state" = installed ] || printf '%s ' "$package"
	done
}

# Packages bring services (tgt listens on every address): policy-rc.d keeps them from starting now, and a service that
# came with this run is disabled, so it does not start later either.
install_packages() {
	policy=${SETUP_POLICY:-/usr/sbin/policy-rc.d}
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	if [ ! -e "$policy" ]; then
		trap 'rm -f "$log" "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	trap 'exit 130' INT TERM
	printf 'iscsiboot: installing packages: %s\n' "$*" >&2
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get update && apt-get install --yes --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
		tail -n 5 "$log" >&2
		fail "apt-get cannot install: $*"
	fi
	for service in tgt istgt; do
		case " $* " in
		*" $service "*) if [ -d /run/systemd/system ]; then systemctl --quiet disable "$service" || true; fi ;;
		esac
	done
	printf 'iscsiboot: packages are installed\n' >&2
}

case ${1:-} in
demo) packages=$demo_packages ;;
check) packages="$demo_packages $check_packages" ;;
*)
	printf 'usage: setup.sh demo|check\n' >&2
	exit 2
	;;
esac

check_machine
# shellcheck disable=SC2086  # lists of package names are meant to be split
missing=$(missing_packages $packages)
if [ -n "$missing" ]; then
	# shellcheck disable=SC2086
	install_packages $missing
fi
