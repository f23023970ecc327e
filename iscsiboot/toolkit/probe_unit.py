# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is asked of one logical unit, from INQUIRY to the verdict on its first blocks. Pure: commands are yielded.

:class:`UnitProbe` keeps what was found so far, so that a failure half way costs only what comes after it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from iscsiboot.initiator.scsi import Capacity, DeviceType, Request
from iscsiboot.initiator.scsi_unit import Answer, Identity, Steps, identify, measure, read_bytes, ready
from iscsiboot.model.lun import Lun
from iscsiboot.toolkit.media import examine
from iscsiboot.toolkit.media_values import Media
from iscsiboot.toolkit.probe_words import lun_text

_WITH_BLOCKS = frozenset(
    {DeviceType.DISK, DeviceType.OPTICAL, DeviceType.OPTICAL_MEMORY, DeviceType.SIMPLE_DISK, DeviceType.ZONED}
)


class UnitProbe:
    """One logical unit; used once."""

    def __init__(self, lun: Lun, *, subject: str, read: bool) -> None:
        self.lun = lun
        self._subject = f"{subject}, LUN {lun_text(lun)}"
        self._read = read
        self.identity: Identity | None = None
        self.capacity: Capacity | None = None
        self.media: Media | None = None

    @property
    def subject(self) -> str:
        """Target, portal and LUN, for messages."""
        return self._subject

    def steps(self) -> Steps[None]:
        """Fill the attributes in order. :class:`~iscsiboot.initiator.scsi_unit.ScsiError` leaves those there are."""
        subject = self._subject
        self.identity = yield from identify(subject=subject)
        kind = self.identity.inquiry.device_type
        if not self.identity.inquiry.present or kind not in _WITH_BLOCKS:
            return
        yield from ready(subject=subject)
        self.capacity = yield from measure(subject=subject)
        if self._read:
            self.media = yield from _media(self.capacity, optical=kind == DeviceType.OPTICAL, subject=subject)


def _media(capacity: Capacity, *, optical: bool, subject: str) -> Generator[Request[Any], Answer, Media]:
    """Join the two readers: what :func:`examine` wants is read by SCSI commands."""
    reads = examine(capacity.size, capacity.block_size, optical=optical)
    try:
        wanted = next(reads)
        while True:
            data = yield from read_bytes(capacity, wanted.offset, wanted.length, subject=subject)
            wanted = reads.send(data)
    except StopIteration as done:
        media: Media = done.value
        return media
