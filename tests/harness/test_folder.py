"""Files and folders are whole or absent."""

from pathlib import Path

import pytest

from rnn_crosscheck.harness.folder import new_folder, write_text


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    class Interrupt(BaseException):
        pass

    def write_half() -> None:
        with new_folder(tmp_path / "run") as scratch:
            (scratch / "half").write_text("x")
            raise Interrupt

    with pytest.raises(Interrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TypeError):
        write_text(tmp_path / "file", 3)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
