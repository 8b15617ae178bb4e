# SPDX-License-Identifier: Apache-2.0
"""Goal: the examples run as they stand, and end well.

Method: each is run as its first lines say.
"""
import pathlib
import subprocess
import sys

import pytest

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "examples/python"


def test_an_owner_and_a_reader_in_two_processes():
    owner = subprocess.Popen([sys.executable, FOLDER / "owner.py"], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    reader = subprocess.run([sys.executable, FOLDER / "reader.py"], stdin=owner.stdout, text=True,
                            capture_output=True, timeout=60)
    owner.stdout.close()
    with owner:
        said = owner.stderr.read()
    assert (reader.returncode, owner.returncode) == (0, 0), reader.stderr + said
    assert "every number is right" in reader.stdout and "ours again" in said
    assert "OutOfRange" in reader.stdout or "Revoked" in reader.stdout


@pytest.mark.parametrize("name, said", [("server.py", "4 clients were served"),
                                        ("torch_tensor.py", "by ")])
def test_an_example_that_stands_alone(name, said):
    done = subprocess.run([sys.executable, FOLDER / name], capture_output=True, text=True,
                          timeout=120)
    if done.returncode == 77:
        pytest.skip(done.stdout.removeprefix("SKIP: ").strip())
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
