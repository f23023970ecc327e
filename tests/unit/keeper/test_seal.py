# SPDX-License-Identifier: LGPL-2.1-or-later
"""Once sealed, a guard reads no file it did not ask for: tried in interpreters of their own that are watched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def sealed(code: str) -> dict[str, Any]:
    """Run ``code`` after the seal; its ``answer``, the log, and every file opened or looked for meanwhile."""
    program = (
        "import json, os, sys, socket\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import asyncio\n"
        "from iscsiboot.keeper import seal\n"
        "lines, answer, opened = [], {}, []\n"
        "def log(level, text): lines.append([int(level), text])\n"
        "seal.preload()\n"
        "seal.seal(log)\n"
        "watching = True\n"
        "def audit(event, args):\n"
        "    if watching and event in ('open', 'os.listdir', 'os.scandir'): opened.append(str(args[0]))\n"
        "sys.addaudithook(audit)\n"
        f"{code}\n"
        "watching = False\n"
        "sys.stdout.write(json.dumps(answer | {'lines': lines, 'opened': opened}))\n"
    )
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout)
    answer["stderr"] = run.stderr
    return answer


def test_a_module_that_is_not_loaded_is_refused_and_told_once() -> None:
    answer = sealed(
        "for name in ('colorsys', 'colorsys', 'email.mime.audio'):\n"
        "    try: __import__(name); answer[name] = 'loaded'\n"
        "    except seal.Sealed as error: answer[name] = error.name\n"
    )
    assert answer["colorsys"] == "colorsys"
    assert answer["email.mime.audio"].startswith("email")
    assert sum("colorsys" in text for _, text in answer["lines"]) == 1
    assert not answer["opened"]


def test_what_is_loaded_can_be_imported() -> None:
    answer = sealed("import asyncio.events, json, os.path; answer['fine'] = True")
    assert answer["fine"]
    assert not answer["lines"]


def test_an_optional_import_is_still_optional() -> None:
    answer = sealed("try:\n    import colorsys\nexcept ImportError:\n    answer['without'] = True\n")
    assert answer["without"]


def test_a_traceback_is_made_without_reading_sources() -> None:
    answer = sealed(
        "import traceback\n"
        "try: json.loads('{')\n"
        "except ValueError as error:\n"
        "    answer['text'] = traceback.format_exc()\n"
        "    answer['words'] = seal.fault_words(error)\n"
    )
    assert "JSONDecodeError" in answer["text"]
    assert answer["words"].startswith("JSONDecodeError: ")
    assert "decoder.py:" in answer["words"]
    assert not answer["opened"]


def test_a_fault_nobody_catches_goes_to_the_log() -> None:
    answer = sealed(
        "class Bad:\n"
        "    def __del__(self): raise RuntimeError('in the end')\n"
        "bad = Bad(); del bad\n"
        "sys.excepthook(ValueError, ValueError('nobody'), None)\n"
    )
    texts = [text for _, text in answer["lines"]]
    assert any("RuntimeError: in the end" in text for text in texts)
    assert any("ValueError: nobody" in text for text in texts)
    assert answer["stderr"] == ""
    assert not answer["opened"]


def test_a_warning_goes_to_the_log_without_its_line() -> None:
    answer = sealed("import warnings; warnings.simplefilter('always'); warnings.warn('old', DeprecationWarning)")
    assert any("DeprecationWarning: old" in text for _, text in answer["lines"])
    assert not answer["opened"]


def test_what_a_guard_does_opens_nothing() -> None:
    """A connection by number, a failed one, a timer, names encoded, errors in words: all of it from memory."""
    answer = sealed(
        "async def main():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    with socket.socket() as server, socket.socket() as client:\n"
        "        server.bind(('127.0.0.1', 0)); server.listen(); client.setblocking(False)\n"
        "        await loop.sock_connect(client, server.getsockname())\n"
        "        reader, writer = await asyncio.open_connection(sock=client)\n"
        "        writer.close()\n"
        "    with socket.socket() as client:\n"
        "        client.setblocking(False)\n"
        "        try: await loop.sock_connect(client, ('127.0.0.1', 1))\n"
        "        except OSError as error: answer['refused'] = str(error)\n"
        "    try:\n"
        "        async with asyncio.timeout(0.01): await asyncio.Event().wait()\n"
        "    except TimeoutError: answer['late'] = True\n"
        "    tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]\n"
        "    await asyncio.wait(tasks)\n"
        "    async with asyncio.TaskGroup() as group: group.create_task(asyncio.sleep(0))\n"
        "    'a\\x00b'.encode('unicode_escape'); 'x'.encode('ascii'); b'x'.decode('latin-1'); 'x'.encode('idna')\n"
        "asyncio.run(main())\n"
    )
    assert answer["late"]
    assert answer["refused"]
    assert not answer["lines"]
    assert not answer["opened"]


def test_a_lift_opens_the_door_again() -> None:
    """And what is watched here is seen: the control of every test above that nothing is opened."""
    answer = sealed(
        "import traceback\n"
        "seal.lift()\n"
        "import colorsys\n"
        "answer['name'], answer['is'] = colorsys.__name__, seal.is_sealed()\n"
        "try: json.loads('{')\n"
        "except ValueError: traceback.format_exc()\n"
    )
    assert answer["name"] == "colorsys"
    assert not answer["is"]
    assert any("colorsys" in name for name in answer["opened"])
    assert any(name.endswith("decoder.py") for name in answer["opened"])


def test_sealed_twice_is_sealed_once_and_tells_the_second_log() -> None:
    answer = sealed(
        "other = []\n"
        "seal.seal(lambda level, text: other.append(text))\n"
        "try: import colorsys\n"
        "except ImportError: pass\n"
        "answer['other'] = len(other)\n"
        "answer['doors'] = sum(type(finder).__name__ == '_Door' for finder in sys.meta_path)\n"
    )
    assert (answer["other"], answer["doors"], answer["lines"]) == (1, 1, [])
