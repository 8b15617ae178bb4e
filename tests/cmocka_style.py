# SPDX-License-Identifier: Apache-2.0
"""Run a unittest program so that scripts/test.py counts its tests one by one, as it does cmocka's,
and prints each skip with its reason. Where all is skipped, the program ends with 77.
"""
import sys
import unittest


class Result(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        say("RUN     ", test)

    def addSuccess(self, test):
        super().addSuccess(test)
        say("      OK", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"SKIP: {reason}")
        say(" SKIPPED", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        print(self.failures[-1][1])
        say(" FAILED ", test)

    def addError(self, test, error):
        super().addError(test, error)
        print(self.errors[-1][1])
        say(" FAILED ", test)


def say(what, test):
    print(f"[ {what} ] {test.id().rpartition('.')[2]}", flush=True)


def run(*cases):
    """Run the tests of these classes, and end the program."""
    loader = unittest.defaultTestLoader
    result = Result()
    unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases).run(result)
    if result.wasSuccessful() and len(result.skipped) >= max(result.testsRun, 1):
        sys.exit(77)
    sys.exit(0 if result.wasSuccessful() and result.testsRun else 1)
