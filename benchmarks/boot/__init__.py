# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long a boot takes beside open-iscsi: ``python3 -m benchmarks.boot`` (see docs/performance.md)."""
