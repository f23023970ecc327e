# SPDX-License-Identifier: LGPL-2.1-or-later
"""Sessions at targets we did not write: every cell of the peers' matrix (matrix_table.py), as matrix.py prints it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from iscsiboot.errors import ExitCode
from tests.doubles.istgt import ISTGT
from tests.doubles.tgt import TGTD
from tests.interop.matrix import Sites, main, outcome, running_istgt, running_lio, running_tgt, table
from tests.interop.matrix_session import Unexpected
from tests.interop.matrix_table import Auth, Cell, Limits, PeerName, Refused, cells, credentials, target_name
from tests.qemu.harness.cache import default_root
from tests.qemu.harness.process import tell_stderr
from tests.qemu.harness.run import Laboratory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
needs_tgt = pytest.mark.skipif(TGTD is None, reason="tgtd is not installed (package tgt)")
needs_istgt = pytest.mark.skipif(ISTGT is None, reason="istgt is not installed (package istgt)")


@pytest.fixture(scope="module")
def tgt() -> Iterator[Sites]:
    with running_tgt() as sites:
        yield sites


@pytest.fixture(scope="module")
def istgt() -> Iterator[Sites]:
    with running_istgt() as sites:
        yield sites


@pytest.fixture(scope="module")
def lio() -> Iterator[Sites]:
    missing = [name for name in ("qemu-system-x86_64", "mmdebstrap", "cpio", "busybox") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"LIO needs {', '.join(missing)}: sh tools/setup.sh check")
    with running_lio(Laboratory.at(default_root(), tell_stderr)) as sites:
        yield sites


def show(cell: Cell) -> str:
    return cell.identity


@pytest.mark.root
@pytest.mark.interop
@needs_root
@needs_tgt
@pytest.mark.parametrize("cell", cells(PeerName.TGT), ids=show)
def test_tgt(cell: Cell, tgt: Sites) -> None:
    outcome(cell, tgt)


@pytest.mark.interop
@needs_istgt
@pytest.mark.parametrize("cell", cells(PeerName.ISTGT), ids=show)
def test_istgt(cell: Cell, istgt: Sites) -> None:
    outcome(cell, istgt)


@pytest.mark.root
@pytest.mark.boot
@needs_root
@pytest.mark.parametrize("cell", cells(PeerName.LIO), ids=show)
def test_lio(cell: Cell, lio: Sites) -> None:
    outcome(cell, lio)


def one(**changes: object) -> Cell:
    """A cell that works at an open target, changed."""
    values: dict[str, object] = {"peer": PeerName.TGT, "target": target_name(Auth.NONE, Limits.DEFAULT), **changes}
    return Cell(**values)  # type: ignore[arg-type]  # the tests below say what is in it


@pytest.mark.root
@pytest.mark.interop
@needs_root
@needs_tgt
@pytest.mark.parametrize(
    ("cell", "says"),
    [
        pytest.param(one(auth=Auth.CHAP), "authentication: None", id="no CHAP where CHAP is due"),
        pytest.param(one(limits=Limits.SMALL), "agreed on", id="other limits"),
        pytest.param(one(remark="something"), "remarks of the login", id="no remark"),
        pytest.param(
            one(control="c", refused=Refused(words="02/01", exit_code=ExitCode.LOGIN_AUTH_FAILED)),
            "succeeded in spite of",
            id="an open door",
        ),
        pytest.param(
            one(
                control="c",
                target=target_name(Auth.CHAP, Limits.DEFAULT),
                credentials=credentials(Auth.CHAP, secret="not-the-secret-at-all"),
                refused=Refused(words="02/03", exit_code=ExitCode.LOGIN_AUTH_FAILED),
            ),
            "02/01",
            id="refused for another reason",
        ),
        pytest.param(
            one(control="c", target="iqn.2026-11.example:no", refused=Refused(words="02/03", exit_code=ExitCode.LOGIN)),
            "exit code 19",
            id="another exit code",
        ),
    ],
)
def test_a_cell_that_is_not_as_expected_fails(cell: Cell, says: str, tgt: Sites) -> None:
    with pytest.raises(Unexpected, match=says):
        outcome(cell, tgt)


def test_every_peer_has_every_working_session_and_controls() -> None:
    for peer in PeerName:
        row = cells(peer)
        assert len({cell.identity for cell in row}) == len(row)
        assert len([cell for cell in row if not cell.control]) == 36
        assert len([cell for cell in row if cell.refused is not None]) >= 6


def test_the_table_shows_every_cell() -> None:
    row = cells(PeerName.LIO)
    text = table([(cell, f"text {number} a|b") for number, cell in enumerate(row)])
    assert [f"text {number} a" in text for number in range(len(row))] == [True] * len(row)
    assert "| LIO | mutual | large | text 26 " in text
    assert "| LIO | wrong-secret | text 36 a/b |" in text


def test_an_unknown_peer_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--peer", "scst"])
    assert caught.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
