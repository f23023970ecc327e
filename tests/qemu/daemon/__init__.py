# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon and the keeper in guests: sessions that pass from one to the other, cuts, targets that come and go."""
