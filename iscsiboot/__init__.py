# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsiboot: start a Linux machine with its root on iSCSI and keep that root alive.

This package file holds the version and nothing else: the boot path imports only what it names.
The map of the layers is ARCHITECTURE.md; ``tests/architecture`` holds it.
"""

__version__ = "0.1.0"
