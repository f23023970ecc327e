# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ``iscsiadm`` command and its small helpers."""
