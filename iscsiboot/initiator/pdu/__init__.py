# SPDX-License-Identifier: LGPL-2.1-or-later
"""PDUs of RFC 7143 chapter 11 as values: one class each, with the places of its fields as a table.

The boot path needs the login's alone, so nothing is imported here; :mod:`iscsiboot.initiator.pdu.registry` knows all.
"""
