#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut module: root on iSCSI by iscsiboot. It installs files and calls programs; what goes into the image and what a
# boot does is decided by "iscsiboot image" and by iscsistart.
#
# dracut (059 and later, dracut-ng) sources this file and calls the functions below; the variables it provides:
# shellcheck disable=SC2154  # hostonly, initdir, systemdsystemunitdir, dracutsysrootdir, add_dracutmodules, ...

# PREFIX of the installation ("make install PREFIX=..."): found by where the program is.
_iscsiboot_prefix() {
    local _program
    _program=$(find_binary iscsiboot) || return 1
    printf '%s' "${_program%/bin/iscsiboot}"
}

_iscsiboot_asked_for() {
    [[ " $dracutmodules $add_dracutmodules $force_add_dracutmodules " == *\ $1\ * ]] \
        && [[ " $omit_dracutmodules " != *\ $1\ * ]]
}

# Whether a block device, MAJOR:MINOR, belongs to an iSCSI session.
_iscsiboot_is_iscsi() {
    [[ $(readlink -f "${ISCSIBOOT_SYSFS:-/sys}/dev/block/$1") == */session[0-9]*/target* ]]
}

# dracut's own module "iscsi" runs open-iscsi in the image. Two programs logging in to one target make two sessions, two
# disks with one name, and a root that comes and goes. An image without the module that was asked for would be worse
# than none, so dracut ends here.
_iscsiboot_conflict() {
    dfatal "iscsiboot: dracut's own 'iscsi' module is to be in this image too; only one may log in to the root's target." \
        "Add --omit iscsi to boot with iscsiboot, or --omit iscsiboot to boot with open-iscsi."
    exit 1
}

# called by dracut
check() {
    require_binaries iscsiboot modprobe || return 1

    if _iscsiboot_asked_for iscsiboot && _iscsiboot_asked_for iscsi; then
        _iscsiboot_conflict
    fi

    # With mount_needs dracut asks whether the root's file system needs us: that is the hostonly question.
    if [[ $hostonly ]] || [[ $mount_needs ]]; then
        for_each_host_dev_and_slaves _iscsiboot_is_iscsi || return 255
        if ! _iscsiboot_asked_for iscsiboot && dracut_module_included iscsi; then
            dinfo "iscsiboot: the root is on iSCSI and dracut's own 'iscsi' module is in the image, so iscsiboot stays out." \
                "Omit 'iscsi' (omit_dracutmodules+=\" iscsi \") to boot with iscsiboot."
            return 255
        fi
        return 0
    fi

    return 255
}

# called by dracut
depends() {
    # No network modules: iscsistart brings up the NIC it needs, and only that. udev-rules names NICs as the running
    # system will, rootfs-block waits for root=.
    echo udev-rules rootfs-block
    return 0
}

# called by dracut
installkernel() {
    # Always: an image made on another machine, or on this one before it was moved to iSCSI, must boot.
    hostonly='' instmods iscsi_tcp libiscsi_tcp libiscsi scsi_transport_iscsi sd_mod
    hostonly='' instmods -s iscsi_ibft iscsi_boot_sysfs crc32c_generic crc32c_intel crc32c_cryptoapi 8021q af_packet ipv6

    # The NIC's driver: in hostonly mode dracut keeps those this machine uses.
    instmods -s "=drivers/net/ethernet" "=drivers/net/phy" "=drivers/net/mdio" "=drivers/net/usb" \
        virtio_net hv_netvsc vmxnet3 xen_netfront net_failover

    # A kernel without iscsi_ibft (another architecture, or omitted) must not be asked to load it.
    if dracut_module_included systemd && [[ $(find "$initdir/lib/modules/" -name 'iscsi_ibft.ko*') ]]; then
        local _hooks
        _hooks="$(_iscsiboot_prefix)/lib/iscsiboot/hooks"
        inst_simple "$_hooks/iscsiboot.modules-load.conf" /usr/lib/modules-load.d/iscsiboot.conf
        inst_simple "$_hooks/iscsiboot-root.ibft.conf" "$systemdsystemunitdir/iscsiboot-root.service.d/ibft.conf"
    fi
    return 0
}

# called by dracut
install() {
    local _prefix _hooks _unit _destination
    _prefix=$(_iscsiboot_prefix)
    _hooks="$_prefix/lib/iscsiboot/hooks"

    # Another module, or hostonly mode, may have brought dracut's iscsi in after check() has looked.
    dracut_module_included iscsi && _iscsiboot_conflict

    # Interpreter, modules, libraries and the program itself: exactly what "iscsiboot image --list" tells.
    # In hostonly mode also the machine's initiator name; an image for many machines must not give it to all of them.
    "$dracutsysrootdir$_prefix/bin/iscsiboot" image ${dracutsysrootdir:+--sysroot "$dracutsysrootdir"} \
        ${hostonly:+--host-only} --stage "$initdir" || {
        dfatal "iscsiboot: the boot path could not be put into the image"
        exit 1
    }
    inst_multiple modprobe
    # The names the running system will give: a NIC that is up, because root is behind it, cannot be renamed later.
    inst_multiple -o "$systemdnetwork/*.link"
    [[ $hostonly ]] && inst_multiple -H -o "$systemdnetworkconfdir/*.link"
    inst_simple "$_hooks/mark-root-mounted.sh"

    if dracut_module_included systemd; then
        for _unit in iscsiboot-root.service iscsiboot-root-mounted.service; do
            _destination="$systemdsystemunitdir/$_unit"
            inst_simple "$_prefix/lib/systemd/system/$_unit" "$_destination"
            $SYSTEMCTL -q --root "$initdir" add-wants initrd.target "$_unit"
        done
    else
        inst_hook pre-trigger 50 "$moddir/iscsiboot-start.sh"
        inst_hook initqueue 10 "$moddir/iscsiboot-wait.sh"
        inst_hook initqueue/finished 10 "$moddir/iscsiboot-finished.sh"
        inst_hook pre-pivot 05 "$_hooks/mark-root-mounted.sh"
        dracut_need_initqueue
    fi
}
