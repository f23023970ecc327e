# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel shows of sessions, hosts and their disks, as values; and the two writes: scan and delete."""
