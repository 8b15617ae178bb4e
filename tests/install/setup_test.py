#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: scripts/setup.sh, which installs etcd-server for the tests, lets Debian start no service of
it, and changes nothing else: who has a policy keeps it, other services are started, and nothing of
ours is left, whether apt-get succeeds, fails or is ended.

Method: fakes of apt-get, dpkg-query and the like in front of the path, and a policy in a folder of
the test's own. The fake apt-get asks it as Debian's maintainer scripts do.

Use: setup_test.py PATH-OF-SETUP
"""

import os
import subprocess
import sys
import tempfile
import unittest

SETUP = ""

# Asks for each service, and notes the answers: 101 forbids.
APT_GET = """#!/bin/sh
[ "$1" = install ] || exit 0
for service in "etcd start" "etcd.service start" "ssh.service restart"; do
    answer=0
    [ ! -x "$POLICY_RC_D" ] || "$POLICY_RC_D" $service || answer=$?
    echo "$service: $answer" >>"$NOTES"
done
[ "$HOW" != ended ] || kill -TERM $PPID
[ "$HOW" != failing ]
"""
FAKES = {
    "apt-get": APT_GET,
    "apt-cache": "#!/bin/sh\nexit 0\n",
    "dpkg-query": '#!/bin/sh\ncase "$*" in *"$MISSING"*) exit 1 ;; esac\necho "ii "\n',
    "id": "#!/bin/sh\necho 0\n",
    "systemctl": '#!/bin/sh\necho "systemctl $*" >>"$NOTES"\n',
}
FORBIDDEN = ["etcd start: 101", "etcd.service start: 101", "ssh.service restart: 0"]
ALLOWED = ["etcd start: 0", "etcd.service start: 0", "ssh.service restart: 0"]
DISABLED = ["systemctl disable etcd"]


class SetupTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="lend-setup-")
        self.addCleanup(self.folder.cleanup)
        os.mkdir(self.path("bin"))
        os.mkdir(self.path("sbin"))
        for name, text in FAKES.items():
            self.write(f"bin/{name}", text)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(self.path(name), 0o755)

    def set_up(self, missing="etcd-server", how="well", code=0):
        """What apt-get was told, and what was done besides."""
        environment = dict(os.environ, PATH=self.path("bin") + ":" + os.environ["PATH"],
                           POLICY_RC_D=self.path("sbin/policy-rc.d"), NOTES=self.path("notes"),
                           MISSING=missing, HOW=how, TMPDIR=self.folder.name)
        done = subprocess.run(["sh", SETUP, "test"], env=environment, capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        left = set(os.listdir(self.folder.name)) - {"bin", "sbin", "notes"}
        self.assertEqual(left, set(), "files were left behind")
        try:
            with open(self.path("notes"), encoding="ascii") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def test_its_service_is_not_started_and_others_are(self):
        self.assertEqual(self.set_up(), FORBIDDEN + DISABLED)
        self.assertEqual(os.listdir(self.path("sbin")), [])

    def test_nothing_is_left_when_apt_get_fails(self):
        notes = self.set_up(how="failing", code=1)
        self.assertEqual(notes, FORBIDDEN * 2)  # once more, with new lists
        self.assertEqual(os.listdir(self.path("sbin")), [])

    def test_nothing_is_left_when_it_is_ended(self):
        self.assertEqual(self.set_up(how="ended", code=130), FORBIDDEN)
        self.assertEqual(os.listdir(self.path("sbin")), [])

    def test_a_policy_that_is_there_is_kept(self):
        mine = "#!/bin/sh\nexit 0\n"
        self.write("sbin/policy-rc.d", mine)
        self.assertEqual(self.set_up(), ALLOWED + DISABLED)
        with open(self.path("sbin/policy-rc.d"), encoding="ascii") as file:
            self.assertEqual(file.read(), mine)

    def test_a_policy_that_leads_nowhere_is_kept(self):
        os.symlink("/nowhere/policy", self.path("sbin/policy-rc.d"))
        self.assertEqual(self.set_up(), ALLOWED + DISABLED)
        self.assertEqual(os.readlink(self.path("sbin/policy-rc.d")), "/nowhere/policy")

    def test_without_it_nothing_is_forbidden(self):
        self.assertEqual(self.set_up(missing="valgrind"), ALLOWED)
        self.assertEqual(os.listdir(self.path("sbin")), [])

    def test_with_all_there_nothing_is_done(self):
        self.assertEqual(self.set_up(missing="nothing that there is"), [])


if __name__ == "__main__":
    SETUP = sys.argv.pop(1)
    unittest.main()
