# SPDX-License-Identifier: LGPL-2.1-or-later
"""The iSCSI protocol without I/O (RFC 7143): calls, bytes and entropy in; bytes and outcomes out."""
