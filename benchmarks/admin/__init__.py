# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsiadm`` beside open-iscsi's: how long a command takes as records and sessions grow."""
