# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a portal and a name to a disk: connect, log in, hand the connection to the kernel, find the block device."""
