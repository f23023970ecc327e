# SPDX-License-Identifier: LGPL-2.1-or-later
"""Subcommands of the iscsiboot command that look at a boot."""
