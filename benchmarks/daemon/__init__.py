# SPDX-License-Identifier: LGPL-2.1-or-later
"""iscsid beside open-iscsi's in one guest: many logins, many recoveries, memory, wake-ups of an idle daemon."""
