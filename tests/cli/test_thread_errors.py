"""The errors of TensorBoard's writing thread, which heed knows by a private name."""

import threading

import pytest
from tensorboard.summary.writer import event_file_writer

from heed.cli.process import set_up_thread_errors


def test_tensorboard_still_has_the_private_name():
    """Under another name its errors would be printed twice."""
    assert issubclass(event_file_writer._AsyncWriterThread, threading.Thread)


@pytest.mark.parametrize(("name", "printed"), [("_AsyncWriterThread", False), ("Thread", True)])
def test_only_tensorboards_errors_are_not_printed(name, printed, monkeypatch, capsys):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    set_up_thread_errors()

    def fail() -> None:
        raise OSError("no space left on device")

    thread = type(name, (threading.Thread,), {})(target=fail)
    thread.start()
    thread.join()
    assert ("no space left" in capsys.readouterr().err) == printed
