# SPDX-License-Identifier: Apache-2.0
"""Goal: the Python package does on this library what its documentation says.

Method: pytest, with the first Python here that has it and NumPy, on the package in the sources and
on the libraries that were just built. Ends with 77 where no Python has both.

Use: run.py SOURCE LIBLEND [LIBNIXL_CAPI] [-- arguments of pytest]
"""
import os
import pathlib
import subprocess
import sys


def interpreter():
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            asked = subprocess.run([python, "-c", "import numpy, pytest"], capture_output=True)
        except OSError:
            continue
        if asked.returncode == 0:
            return python
    return None


def main():
    ours, _, theirs = " ".join(sys.argv[1:]).partition(" -- ")
    source, *libraries = ours.split()
    libraries = [str(pathlib.Path(library).resolve()) for library in libraries]
    python = interpreter()
    if python is None:
        print("SKIP: no Python here has both pytest and NumPy (python3-pytest, python3-numpy)")
        sys.exit(77)
    environment = dict(os.environ, PYTHONPATH=str(pathlib.Path(source) / "bindings/python"),
                       PYTHONDONTWRITEBYTECODE="1", LEND_LIBRARY=libraries[0])
    plugin = pathlib.Path(libraries[0]).parent / "src/plugin/secret/lend-secret.so"
    if plugin.exists():
        environment["LEND_TEST_SECRET_PLUGIN"] = str(plugin)
    fake = pathlib.Path(libraries[0]).parent / "tests/libcuda.so.1"
    if fake.exists():
        environment["LEND_TEST_FAKE_CUDA"] = str(fake)
    if len(libraries) > 1:
        environment["LEND_NIXL_LIBRARY"] = libraries[1]
    sys.exit(subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-s", "--no-header",
         "-o", "python_files=*_test.py", "--tb=short", str(pathlib.Path(source) / "tests/python"),
         *theirs.split()], env=environment).returncode)


main()
