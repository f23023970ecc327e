# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an initramfs needs to boot from iSCSI: host facts -> list of entries (pure) -> image builder | report."""
