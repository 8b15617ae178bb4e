# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Python package share: agents that are closed, two processes, and a report
that scripts/test.py counts as it counts that of cmocka.
"""
import gc
import itertools
import multiprocessing
import os
import re

import pytest

import lend

_serial = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def folder(tmp_path_factory):
    """Where the sockets of this run are, and those of its other processes."""
    path = tmp_path_factory.mktemp("s")
    os.environ["LEND_TEST_FOLDER"] = str(path)
    return str(path)


@pytest.fixture
def agent(folder):
    """Makes agents, and closes them at the end."""
    made = []

    def make(name=None, **settings):
        settings.setdefault("local_directory", folder)
        made.append(lend.Agent(name or f"agent-{next(_serial)}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
    gc.collect()


class Other:
    """Another process that runs a function of a test, and a pipe to it."""

    def __init__(self, function, *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=function, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, *words):
        self.pipe.send(words)
        return self.hear()

    def hear(self, seconds=60):
        assert self.pipe.poll(seconds), "the other process is silent"
        return self.pipe.recv()

    def end(self):
        self.process.kill()
        self.process.join()
        self.pipe.close()


@pytest.fixture
def other():
    """Starts other processes, and ends them."""
    started = []

    def start(function, *arguments):
        started.append(Other(function, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.end()


# The report.

def _name(report):
    return re.sub(r"\W+", "_", report.nodeid.rpartition("::")[2] or report.nodeid).strip("_")


def pytest_runtest_logstart(nodeid, location):
    print(f"\n[ RUN      ] {re.sub(chr(92) + 'W+', '_', nodeid.rpartition('::')[2]).strip('_')}")


def pytest_runtest_logreport(report):
    if report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        print(f"SKIP: {str(reason).removeprefix('Skipped: ')}\n[  SKIPPED ] {_name(report)}")
    elif report.failed:
        print(f"[  FAILED  ] {_name(report)}")
    elif report.when == "call":
        print(f"[       OK ] {_name(report)}")


def pytest_report_teststatus(report):
    """No letters between the lines."""
    if report.when == "call" or report.outcome != "passed":
        return report.outcome, "", ""
    return "", "", ""
