# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsiadm beside open-iscsi's: one script of commands, run in one guest against both, and every difference judged."""
