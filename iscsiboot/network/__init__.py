# SPDX-License-Identifier: LGPL-2.1-or-later
"""Bring NICs up for a boot: plan as values, apply by rtnetlink, addresses static or by DHCPv4.

:mod:`.bringup` is the way in. Pure: lease, facts, request, steps, plan, dhcp_options, dhcp_message, dhcp_machine.
Touching the machine: rtnl, dhcp_socket, files.
"""
