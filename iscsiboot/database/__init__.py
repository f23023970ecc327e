# SPDX-License-Identifier: LGPL-2.1-or-later
"""The record database: open-iscsi's tree of text files, written so that nothing is lost."""
