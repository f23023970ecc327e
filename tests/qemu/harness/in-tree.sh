#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Make a disk or an initramfs from a Debian tree that itself stays as it is, through an overlay.
#
#   in-tree.sh disk      BASE FILES WORK OUTPUT SIZE_MIB LABEL
#   in-tree.sh initramfs BASE FILES WORK OUTPUT KERNEL_RELEASE DRACUT_ARGUMENT...
#
# BASE is the tree (only read), FILES a directory copied over it, WORK an empty directory on a real file system. Start it
# by `unshare --mount --pid --net --fork --kill-child`: mounts and processes are then private and end with it, whatever
# happens, and nothing inside can reach a network.
set -eu

action=$1 base=$2 files=$3 work=$4 output=$5
shift 5
tree=$work/tree
mkdir "$work/upper" "$work/overlay" "$tree"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/overlay" "$tree"
# tar and not cp: /lib is a link to usr/lib there, and a directory "lib" in FILES must go through it.
tar -C "$files" --owner=0 --group=0 --numeric-owner -cf - . |
	tar -C "$tree" -xf - --keep-directory-symlink --no-overwrite-dir

case $action in
disk)
	# Inode tables and journal are written here: in the guest it would be done in the background, while it is measured.
	mke2fs -q -t ext4 -L "$2" -J size=16 -E lazy_itable_init=0,lazy_journal_init=0 -d "$tree" "$output" "$1M"
	;;
initramfs)
	release=$1
	shift
	mount -t proc proc "$tree/proc"
	mount -t sysfs -o ro sysfs "$tree/sys"
	mount -t tmpfs tmpfs "$tree/run"
	mount --rbind /dev "$tree/dev"
	chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
		dracut --force --no-hostonly --no-hostonly-cmdline "$@" /boot/initramfs.img "$release"
	cp "$tree/boot/initramfs.img" "$output"
	;;
*)
	echo "in-tree.sh: unknown action $action" >&2
	exit 2
	;;
esac
