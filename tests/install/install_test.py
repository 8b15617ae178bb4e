#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what is installed is all that a user needs, wherever it is put, and no more.

Method: the built tree is installed into an empty root, and a small program that does the main job
is built against that root, and run, from each point of view that docs/install.md tells of.

Use: install_test.py BUILD-FOLDER
"""
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import cmocka_style
from tree import C11, CONSUMER, SAID, SOURCE, STRICT, Tree, tool

BUILD = pathlib.Path(sys.argv[1]).resolve()


class InstallTest(Tree):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.run_command("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet",
                        "--destdir", cls.root)
        files = [path for path in cls.root.rglob("*") if not path.is_dir()]
        cls.files = {path.name: path for path in files}
        cls.libdir = cls.files["liblend.so.0"].parent
        cls.prefix = cls.files["lend.h"].parents[2]

    # What is there.

    def test_the_headers_are_those_of_the_source(self):
        source = SOURCE / "include/lend"
        installed = self.prefix / "include/lend"
        names = {path.name for path in source.iterdir()}
        self.assertEqual({path.name for path in installed.iterdir()}, names)
        for name in names:
            self.assertEqual((installed / name).read_bytes(), (source / name).read_bytes(), name)

    def test_the_library_is_found_by_its_soname_and_by_its_name(self):
        real = self.libdir / "liblend.so"
        for name in ("liblend.so", "liblend.so.0"):
            self.assertTrue((self.libdir / name).is_symlink(), name)
        self.assertRegex(real.resolve().name, r"^liblend\.so\.\d+\.\d+\.\d+$")
        self.assertIn("[liblend.so.0]", self.run_command("readelf", "-d", real))

    def test_nothing_else_than_what_is_meant_is_installed(self):
        meant = (r"include/(lend/\w+|nixl_capi)\.h|bin/lend|share/man/man1/lend[-\w]*\.1|"
                 r"share/bash-completion/completions/lend|"
                 r"share/fish/vendor_completions\.d/lend\.fish|share/zsh/site-functions/_lend|"
                 r"lib\S*/(liblend\.(a|so[.\d]*)|libnixl_capi\.so[.\d]*|"
                 r"lend/lend-(etcd|secret)\.so|pkgconfig/(lend|nixl_capi)\.pc|"
                 r"cmake/lend/lendConfig\w*\.cmake)")
        for path in self.files.values():
            self.assertRegex(str(path.relative_to(self.prefix)), f"^({meant})$")

    def test_no_file_names_the_folder_that_it_was_built_in(self):
        for path in self.files.values():
            if path.is_symlink():
                continue
            copy = self.folder / "copy"
            shutil.copyfile(path, copy)
            if (path.suffix == ".so" or path.name == "lend"
                    or path.name.startswith(("liblend.", "libnixl_capi."))):
                self.run_command("strip", "--strip-debug", copy)  # such information may
            for folder in {str(BUILD), str(SOURCE)}:
                self.assertFalse(folder.encode() in copy.read_bytes(), f"{path} names {folder}")

    def test_the_library_of_nixl_is_found_by_the_bare_name_and_knows_its_soname(self):
        bare = self.libdir / "libnixl_capi.so"
        self.assertTrue(bare.is_symlink())
        self.assertRegex(bare.resolve().name, r"^libnixl_capi\.so\.\d+\.\d+\.\d+$")
        said = self.run_command("readelf", "-d", bare)
        self.assertIn("[libnixl_capi.so.0]", said)
        self.assertNotRegex(said, "RPATH|RUNPATH")
        loader = self.folder / "loader.py"
        loader.write_text("import ctypes\nctypes.CDLL('libnixl_capi.so').nixl_capi_create_agent\n")
        self.run_command(sys.executable, loader, LD_LIBRARY_PATH=str(self.libdir))

    def test_the_command_runs_with_the_installed_library(self):
        if "lend" not in self.files:
            self.skipTest("this build has no lend command")
        lend = self.prefix / "bin/lend"
        self.assertNotRegex(self.run_command("readelf", "-d", lend), "RPATH|RUNPATH")
        said = self.run_command(lend, "--version", LD_LIBRARY_PATH=str(self.libdir))
        self.assertRegex(said, r"^lend \d+\.\d+\.\d+\n$")

    def test_make_install_honours_prefix_and_destdir(self):
        root = self.folder / "make"
        build = self.folder / "build-make"
        make = ("make", "-C", SOURCE, f"BUILD={build}", f"DESTDIR={root}",
                "MESON_OPTIONS=--buildtype=plain -Dtests=disabled -Dexamples=false -Dtool=disabled")
        self.run_command(*make, "install", MAKEFLAGS="", MESONFLAGS="")
        self.assertTrue((root / "usr/local/include/lend/lend.h").exists())
        shutil.rmtree(root)
        self.run_command(*make, "PREFIX=/opt/lend", "install", MAKEFLAGS="")
        self.assertEqual([str(path.relative_to(root)) for path in root.glob("*/*")], ["opt/lend"])
        description = next(root.rglob("lend.pc")).read_text()
        self.assertRegex(description, r"(?m)^prefix=/opt/lend$")

    # Whoever uses it.

    def test_a_c11_program_by_pkg_config(self):
        flags = self.ask_pkg_config(self.libdir, "--cflags", "--libs")
        program = self.build("shared", C11, flags)
        self.assertIn("liblend.so.0", self.needs(program))
        self.check_runs(program, self.libdir)

    def test_a_static_program_by_pkg_config(self):
        flags = self.ask_pkg_config(self.libdir, "--static", "--cflags", "--libs")
        program = self.build("static", C11, flags, "-static")
        self.assertEqual(self.needs(program), set())
        self.check_runs(program)

    def test_a_program_with_lend_alone_static(self):
        flags = self.ask_pkg_config(self.libdir, "--static", "--cflags", "--libs")
        flags = ["-l:liblend.a" if flag == "-llend" else flag for flag in flags]
        program = self.build("mostly-shared", C11, flags)
        self.assertEqual(self.needs(program), {"libc.so.6"})
        self.check_runs(program)

    def test_a_cpp17_program(self):
        flags = self.ask_pkg_config(self.libdir, "--cflags", "--libs")
        compiler = (tool("g++"), "-std=c++17", *STRICT, "-x", "c++")
        program = self.build("cpp", compiler, ["-x", "none", *flags])
        self.check_runs(program, self.libdir)

    def test_a_c11_program_by_clang(self):
        flags = self.ask_pkg_config(self.libdir, "--cflags", "--libs")
        compiler = (tool("clang", "clang-14"), "-std=c11", *STRICT)
        self.check_runs(self.build("clang", compiler, flags), self.libdir)

    def test_a_program_of_nixl_by_pkg_config(self):
        flags = self.ask_pkg_config(self.libdir, "--cflags", "--libs", package="nixl_capi")
        program = self.build("nixl", C11, flags, source=SOURCE / "examples/nixl_external.c")
        self.assertEqual(self.needs(program), {"libc.so.6", "libnixl_capi.so.0"})
        said = self.run_command(program, LD_LIBRARY_PATH=str(self.libdir))
        self.assertIn("all as they were", said)

    def test_pkg_config_knows_a_tree_that_was_moved(self):
        moved = self.folder / "moved"
        shutil.copytree(self.prefix, moved, symlinks=True)
        libdir = moved / self.libdir.relative_to(self.prefix)
        flags = self.run_command("pkg-config", f"--define-variable=prefix={moved}", "--cflags",
                                 "--libs", "lend", PKG_CONFIG_LIBDIR=f"{libdir}/pkgconfig").split()
        self.assertIn(f"-I{moved}/include", flags)
        self.assertIn(f"-L{libdir}", flags)
        self.check_runs(self.build("of-moved", C11, flags), libdir)

    # CMake.

    def cmake(self, prefix, *more, code=0):
        shutil.rmtree(self.folder / "cmake", ignore_errors=True)
        return self.run_command(tool("cmake"), "-S", SOURCE / "tests/install/cmake",
                                "-B", self.folder / "cmake", f"-DCONSUMER={CONSUMER}",
                                f"-DCMAKE_PREFIX_PATH={prefix}", *more, code=code)

    def test_a_cmake_project_in_both_languages_with_both_libraries_of_a_moved_tree(self):
        moved = self.folder / "moved for CMake"
        tool("cmake")
        shutil.copytree(self.prefix, moved, symlinks=True)
        self.cmake(moved, "-DWANTED_VERSION=0.1")
        self.run_command("cmake", "--build", self.folder / "cmake", "--parallel", "2")
        for name in ("lend-c", "lend-cc", "static-c", "static-cc"):
            program = self.folder / "cmake" / name
            self.assertEqual("liblend.so.0" in self.needs(program), name.startswith("lend"), name)
            self.assertRegex(self.run_command(program), SAID)  # CMake wrote where the library is

    def test_cmake_refuses_a_version_that_is_not_there(self):
        said = self.cmake(self.prefix, "-DWANTED_VERSION=77.0", code=1)
        self.assertRegex(said, r"considered but not accepted:\s+\S+/lendConfig.cmake")

    def test_cmake_is_told_which_library_is_missing(self):
        bare = self.folder / "bare"
        shutil.copytree(self.prefix, bare, symlinks=True)
        next(bare.rglob("liblend.a")).unlink()
        self.assertRegex(self.cmake(bare, code=1), r"has no library\s+for:\s+static")


if __name__ == "__main__":
    cmocka_style.run(InstallTest)
