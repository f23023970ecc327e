# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hypothesis strategies for every table the format can hold."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import settings
from hypothesis import strategies as st

from iscsiboot.ibft import layout
from iscsiboot.ibft.structures import IbftControl, IbftExtensions, IbftInitiator, IbftNic, IbftTable, IbftTarget
from iscsiboot.model.credentials import Secret
from iscsiboot.model.lun import Lun

UNHURRIED = settings(deadline=None)
"""No limit for one example: these tests share two cores with virtual machines."""

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
addresses = st.none() | st.one_of(
    st.integers(1, (1 << 32) - 1).map(IPv4Address),
    st.integers(1, (1 << 128) - 1).map(IPv6Address).filter(lambda address: address.ipv4_mapped is None),
)
texts = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40).filter(str.isprintable)
secrets = st.none() | st.binary(min_size=1, max_size=32).filter(lambda raw: b"\0" not in raw).map(Secret)
macs = st.none() | st.binary(min_size=6, max_size=6).filter(any)
luns = st.binary(min_size=8, max_size=8).map(Lun)
initiators = st.builds(
    IbftInitiator,
    index=u8,
    flags=u8,
    offset=st.just(0),
    isns_server=addresses,
    slp_server=addresses,
    primary_radius=addresses,
    secondary_radius=addresses,
    name=texts,
)
nics = st.builds(
    IbftNic,
    index=u8,
    flags=u8,
    offset=st.just(0),
    address=addresses,
    prefix_len=u8,
    origin=u8,
    gateway=addresses,
    primary_dns=addresses,
    secondary_dns=addresses,
    dhcp_server=addresses,
    vlan=u16,
    mac=macs,
    pci=u16,
    hostname=texts,
)
targets = st.builds(
    IbftTarget,
    index=u8,
    flags=u8,
    offset=st.just(0),
    address=addresses,
    port=u16,
    lun=luns,
    chap_type=u8,
    nic_index=u8,
    name=texts,
    chap_name=texts,
    chap_secret=secrets,
    reverse_chap_name=texts,
    reverse_chap_secret=secrets,
)
extensions = st.builds(IbftExtensions, index=u8, flags=u8, offset=st.just(0), body=st.binary(max_size=64))


def _ids(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=size).map(lambda raw: raw.rstrip(b"\0"))


tables = st.builds(
    IbftTable,
    signature=st.sampled_from(layout.SIGNATURES),
    oem_id=_ids(6),
    oem_table_id=_ids(8),
    reserved=st.binary(min_size=24, max_size=24),
    control=st.builds(IbftControl, flags=u8),
    initiator=st.none() | initiators,
    nics=st.lists(nics, max_size=5, unique_by=lambda nic: nic.index).map(tuple),
    targets=st.lists(targets, max_size=5, unique_by=lambda target: target.index).map(tuple),
    extensions=st.none() | extensions,
)
