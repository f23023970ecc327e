# SPDX-License-Identifier: LGPL-2.1-or-later
"""Orders to the daemon over a Unix socket: the protocol, its two ends, and what the real iscsiadm says there."""
