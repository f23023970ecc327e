# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads recorded conversations and makes the machine that held them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from iscsiboot.initiator.chap import ChapAlgorithm
from iscsiboot.initiator.config import LoginConfig
from iscsiboot.initiator.login import LoginMachine
from iscsiboot.model.credentials import Chap, Credentials, Secret
from iscsiboot.model.params import SessionParams

HERE = Path(__file__).parent
TARGET = "iqn.2026-11.example.iscsiboot:vectors"
USER, OWN = ("user", "initiator-secret"), ("tgt", "secret-of-the-target")


@dataclass
class Recording:
    """One file."""

    auth: str
    algorithms: tuple[ChapAlgorithm, ...]
    ends: str
    target: str = TARGET
    exchanges: list[tuple[bytes, bytes]] = field(default_factory=list)
    """A request of ours and the target's answer, each header and padded data."""

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file of the form the README gives."""
        fields: dict[str, str] = {}
        wire: dict[str, list[bytes]] = {">": [], "<": []}
        for line in path.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if word in wire:
                wire[word].append(bytes.fromhex(rest))
            else:
                fields[word] = rest
        return cls(
            auth=fields["auth"],
            algorithms=tuple(ChapAlgorithm(int(number)) for number in fields["algorithms"].split(",")),
            ends=fields["ends"],
            target=fields["target"],
            exchanges=list(zip(wire[">"], wire["<"], strict=True)),
        )

    def save(self, path: Path) -> None:
        """The inverse of :meth:`load`."""
        lines = [
            f"auth {self.auth}",
            f"algorithms {','.join(str(int(number)) for number in self.algorithms)}",
            f"target {self.target}",
            f"ends {self.ends}",
        ]
        for sent, answered in self.exchanges:
            lines += [f"> {sent.hex()}", f"< {answered.hex()}"]
        path.write_text("\n".join(lines) + "\n")

    def machine(self) -> LoginMachine:
        """A machine that sends what was recorded, as long as nothing has changed."""
        outgoing, incoming = (Chap(name=name, secret=Secret(secret.encode())) for name, secret in (USER, OWN))
        mutual = Credentials(outgoing=outgoing, incoming=incoming if self.auth == "mutual" else None)
        config = LoginConfig(
            initiator_name="iqn.2026-11.example.iscsiboot:tests",
            initiator_alias="tests",
            target_name=self.target,
            isid=bytes.fromhex("00023d000007"),
            params=SessionParams(),
            credentials=None if self.auth == "none" else mutual,
            chap_algorithms=self.algorithms,
        )
        return LoginMachine(config, entropy=lambda length: bytes(range(1, length + 1)))
