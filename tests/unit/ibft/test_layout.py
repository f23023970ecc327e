# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of the format against itself and against the structures it is kept in."""

from __future__ import annotations

from dataclasses import fields

import pytest

from iscsiboot.ibft import layout
from iscsiboot.ibft.layout import Kind, Layout
from iscsiboot.ibft.structures import IbftInitiator, IbftNic, IbftTarget

PAIRS = [
    pytest.param(layout.INITIATOR, IbftInitiator, id="initiator"),
    pytest.param(layout.NIC, IbftNic, id="nic"),
    pytest.param(layout.TARGET, IbftTarget, id="target"),
]


@pytest.mark.parametrize(("own", "structure"), PAIRS)
def test_fields_fill_the_structure_without_gap_or_overlap(own: Layout, structure: type) -> None:
    position = layout.STRUCTURE_HEADER_SIZE
    for spec in own.fields:
        assert spec.offset == position, spec.label
        position += spec.kind.size
    assert position == own.size


@pytest.mark.parametrize(("own", "structure"), PAIRS)
def test_every_field_has_its_attribute_and_the_other_way_round(own: Layout, structure: type) -> None:
    kept = {spec.name for spec in fields(structure)} - {"index", "flags", "offset"}
    assert {spec.attribute for spec in own.fields} == kept


@pytest.mark.parametrize(
    ("own", "attribute", "offset", "kind"),
    [
        # Linux, drivers/firmware/iscsi_ibft.c, struct ibft_initiator, ibft_nic, ibft_tgt (packed)
        (layout.INITIATOR, "isns_server", 6, Kind.ADDRESS),
        (layout.INITIATOR, "name", 70, Kind.STRING),
        (layout.NIC, "prefix_len", 22, Kind.U8),
        (layout.NIC, "vlan", 88, Kind.U16),
        (layout.NIC, "mac", 90, Kind.MAC),
        (layout.NIC, "pci", 96, Kind.U16),
        (layout.NIC, "hostname", 98, Kind.STRING),
        (layout.TARGET, "port", 22, Kind.U16),
        (layout.TARGET, "lun", 24, Kind.LUN),
        (layout.TARGET, "nic_index", 33, Kind.U8),
        (layout.TARGET, "reverse_chap_secret", 50, Kind.SECRET),
    ],
)
def test_offsets_of_the_kernel(own: Layout, attribute: str, offset: int, kind: Kind) -> None:
    spec = own.field(attribute)
    assert (spec.offset, spec.kind) == (offset, kind)


def test_a_field_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        layout.NIC.field("lun")
