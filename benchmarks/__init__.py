# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measurements beside open-iscsi, as ratios in one run; never tests."""
