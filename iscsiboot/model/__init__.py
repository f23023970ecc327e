# SPDX-License-Identifier: LGPL-2.1-or-later
"""Frozen values every layer speaks. Nothing here does I/O or knows a wire format of a kernel interface."""
