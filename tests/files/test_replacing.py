"""Replacing a directory, whenever the process is killed."""

import os
from pathlib import Path

import pytest

from heed.files import atomic


@pytest.mark.parametrize(("renames", "left"), [(0, "old"), (1, "old"), (2, "new")])
def test_killed_in_the_swap_one_directory_is_left_whole(tmp_path, renames, left):
    directory = tmp_path / "e"
    directory.mkdir()
    (directory / "report.md").write_text("old")
    child = os.fork()
    if child == 0:  # dies like one killed: no `finally` runs
        done = 0
        rename = Path.rename

        def counted(*arguments):
            nonlocal done
            if done == renames:
                os._exit(9)
            done += 1
            return rename(*arguments)

        with atomic.replacing(directory) as new:
            (new / "report.md").write_text("new")
            Path.rename = counted
            atomic.shutil.rmtree = lambda *arguments, **options: os._exit(9)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(KeyboardInterrupt), atomic.replacing(directory):  # what the next one does first
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["e"]
    assert (directory / "report.md").read_text() == left
