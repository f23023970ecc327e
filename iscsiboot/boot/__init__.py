# SPDX-License-Identifier: LGPL-2.1-or-later
"""The boot entry point: what runs in the initramfs between the firmware's table and the root disk."""
