# SPDX-License-Identifier: LGPL-2.1-or-later
"""The kernel's NETLINK_ISCSI interface: numbers, messages as values, the socket, and who else uses it."""
