import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parity.contract import InputError
from parity.data import check_writable, replacing


def test_replaces_the_file_when_the_block_ends_well(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode


def test_who_reads_the_old_file_meanwhile_reads_it_to_the_end(tmp_path):
    """A rename gives the name to another file; writing into the old one would change it under its reader."""
    path = tmp_path / "out.txt"
    path.write_text("old content")
    with path.open() as reader:
        with replacing(path) as temporary:
            temporary.write_text("new")
        assert reader.read() == "old content"


def test_leaves_the_old_file_when_the_block_fails(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


WRITER = """
import sys, time
from pathlib import Path
from parity.data import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert path.read_text() == "old"


def test_check_writable_refuses(tmp_path):
    with pytest.raises(InputError, match="out .*: it is a folder"):
        check_writable(tmp_path, argument="out")
    with pytest.raises(InputError, match=r"the folder .* does not exist"):
        check_writable(tmp_path / "no" / "file", argument="out")
    check_writable(tmp_path / "file", argument="out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_writable_refuses_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="is not writable"):
        check_writable(tmp_path / "file", argument="out")


def test_check_writable_refuses_a_device():
    with pytest.raises(InputError, match="/dev/null: it is not a regular file"):
        check_writable(Path("/dev/null"), argument="json")


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    link, target = tmp_path / "link", tmp_path / "target"
    target.write_text("old")
    link.symlink_to(target)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
