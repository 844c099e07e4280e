"""The flight recorder's file: what it keeps over the end of its process, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thence.errors import ConfigurationError
from thence.identifiers import EventId
from thence.observability.accounts import Ran, Sent
from thence.observability.recorder_file import LEAST_BYTES, RecorderFile, former_account

NODE = "0" * 19 + "1"


def ran(number: int, error: str | None = None) -> Ran:
    return Ran(EventId(NODE, number), "moved", "s.h", float(number), number + 0.5, error=error)


def facts_in(path: Path) -> tuple[object, ...]:
    account = former_account(str(path), time.monotonic())
    assert account is not None
    return account.facts


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    file = RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 1.0)
    facts = [Sent(EventId(NODE, 1), "moved", ("s",), size=3, by=2.0), ran(1), ran(2, "KeyError: 1")]
    for fact in facts:
        file.write(fact)
    # It is not closed: its process may have been killed.
    account = former_account(str(path), time.monotonic())
    assert account is not None
    assert list(account.facts) == facts
    assert (account.node, account.name, account.since) == (NODE, "scores (former run)", 1.0)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=400))
def test_a_full_file_keeps_the_latest_without_a_gap(lengths: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        file = RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 0.0)
        for number, length in enumerate(lengths):
            file.write(ran(number, "x" * length))
        file.close()
        numbers = [fact.event_id.sequence for fact in facts_in(path)]  # type: ignore[attr-defined]
        assert numbers == list(range(len(lengths)))[-len(numbers) :]
        # But for the end of the file, into which a record did not fit, and the records begun to be overwritten.
        kept = sum(lengths[number] + 40 for number in numbers)
        assert len(numbers) == len(lengths) or kept > LEAST_BYTES - 3 * 3200


@given(st.data())
def test_no_changed_byte_makes_a_fact_that_was_not_written(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        file = RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 0.0)
        facts = [ran(number, "an error") for number in range(20)]
        for fact in facts:
            file.write(fact)
        file.close()
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, 4096 + 1500))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        account = former_account(str(path), 0.0)
        assert account is None or set(account.facts) <= set(facts)


def test_the_next_run_finds_what_the_one_before_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 0.0)
    first.write(ran(7))
    first.close()
    second = RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 0.0)
    second.close()
    assert facts_in(path) == ()
    assert facts_in(tmp_path / "file.before") == (ran(7),)


def test_a_file_of_a_running_node_is_not_taken_from_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 0.0)
    with pytest.raises(ConfigurationError, match="another path"):
        RecorderFile(str(path), LEAST_BYTES, NODE, "scores", 0.0)
    first.write(ran(1))
    assert facts_in(path) == (ran(1),)


@pytest.mark.parametrize("content", [b"", b"thence recorder 1\n", os.urandom(9000), b"\0" * 9000])
def test_what_is_no_such_file_tells_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert former_account(str(path), 0.0) is None
    assert former_account(str(tmp_path / "none"), 0.0) is None


def test_a_file_that_can_not_be_made_is_refused_with_what_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="another path"):
        RecorderFile(str(tmp_path / "file" / "below"), LEAST_BYTES, NODE, "scores", 0.0)


@pytest.mark.parametrize("taken", ["file", "file.before"])
@pytest.mark.parametrize("is_folder", [False, True])
def test_what_is_no_recorders_file_is_left_alone(
    tmp_path: Path, taken: str, is_folder: bool
) -> None:
    (tmp_path / taken).mkdir() if is_folder else (tmp_path / taken).write_text("import thence")
    with pytest.raises(ConfigurationError, match="left alone, give another path"):
        RecorderFile(str(tmp_path / "file"), LEAST_BYTES, NODE, "scores", 0.0)
    assert [path.name for path in tmp_path.iterdir()] == [taken]
    assert is_folder or (tmp_path / taken).read_text() == "import thence"


def test_a_file_of_a_run_that_ended_before_it_wrote_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(9000))
    RecorderFile(str(tmp_path / "file"), LEAST_BYTES, NODE, "scores", 0.0).close()
    assert facts_in(tmp_path / "file") == ()


KILLED = """
import os, signal, sys
from thence.identifiers import EventId
from thence.observability.accounts import Ran
from thence.observability.recorder_file import RecorderFile
file = RecorderFile(sys.argv[1], 100_000, "0" * 19 + "1", "scores", 0.0)
for number in range(50):
    file.write(Ran(EventId("0" * 19 + "1", number), "moved", "s.h", 0.0, 1.0))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_written_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(facts_in(path)) == 50
