#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# dracut without systemd, hook initqueue/finished: the queue is not done before iscsistart is. Sourced by dracut's init.

[ -z "$iscsiboot_pid" ]
