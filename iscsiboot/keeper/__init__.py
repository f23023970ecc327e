# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine that guards sessions; the keeper of the initramfs, the daemon and its standby are this one."""
