from __future__ import annotations

import socket

import pytest

from trading_platform.cli import main


def test_a_taken_port_of_the_dagster_ui_is_refused_and_named(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["dev", "--home", str(tmp_path), "--port", str(port)]) == 2
    said = capsys.readouterr()
    assert f"cannot listen on port {port}" in said.err and "fix:" in said.err and said.out == ""
    assert main(["dev", "--home", str(tmp_path), "--port", "70000"]) == 2
