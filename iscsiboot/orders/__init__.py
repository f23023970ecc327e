# SPDX-License-Identifier: LGPL-2.1-or-later
"""A node record as an order for a session; what the commands and the daemon read and refuse in the same way."""
