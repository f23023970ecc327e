# SPDX-License-Identifier: LGPL-2.1-or-later
"""Login, discovery and probe beside C initiators: ``python3 -m benchmarks.initiator`` (see docs/performance.md)."""
