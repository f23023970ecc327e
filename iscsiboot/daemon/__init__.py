# SPDX-License-Identifier: LGPL-2.1-or-later
"""``iscsid``: the keeper's engine with a socket for requests, the files and the manners of a daemon around it."""
