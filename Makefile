# SPDX-License-Identifier: Apache-2.0
# The commands of the README, and no more build system than that: Meson is behind them.

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
MESON_OPTIONS ?= --buildtype=release -Dwerror=false -Dtests=disabled -Dtool=enabled

.PHONY: all demo bench plots test test-nixl test-rdma test-gpu install abi clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/setup.sh build
	@meson setup $(MESON_OPTIONS) $(BUILD)

demo:
	@scripts/setup.sh build
	@$(MAKE) --no-print-directory all
	@$(BUILD)/src/tool/lend demo $(DEMO)

bench:
	@scripts/setup.sh build
	@$(MAKE) --no-print-directory all
	@$(BUILD)/src/tool/lend bench --output $(BUILD)/bench.json $(BENCH)

# Of the last `make bench', or of one now if there was none; and of those of a network that are
# kept beside it (docs/bench.md).
plots: $(BUILD)/bench.json
	@scripts/setup.sh plots
	@python3 scripts/plot.py $(BUILD)/bench.json $(wildcard $(BUILD)/bench-*.json) \
		--plots docs/plots --into docs/bench.md

$(BUILD)/bench.json:
	@$(MAKE) --no-print-directory bench

test:
	@scripts/setup.sh test
	@python3 scripts/test.py $(SUITES)

# The part of it that takes the published crates of NIXL, and NVIDIA's library.
test-nixl:
	@$(MAKE) --no-print-directory test SUITES=nixl

# No part of it: what needs RDMA devices, on soft-RoCE in a virtual machine.
test-rdma:
	@scripts/setup.sh rdma
	@python3 scripts/test.py rdma

# No part of it: what needs an NVIDIA GPU. It takes a C compiler and no network, and looks for
# PyTorch and compute-sanitizer (docs/hardware.md).
test-gpu:
	@tests/hw/run.sh

# DESTDIR is a packager's root for the tree of PREFIX. A new library of this system is told to its
# linker.
install: all
	@grep -qx 'prefix=$(PREFIX)' $(BUILD)/meson-private/lend.pc || \
	    { meson configure $(BUILD) --prefix='$(PREFIX)' && ninja -C $(BUILD); }
	@DESTDIR='$(abspath $(DESTDIR))' meson install -C $(BUILD) --no-rebuild
	@test -n '$(DESTDIR)' || test "$$(id -u)" != 0 || ldconfig

# After a change of the public headers, so that tests/abi knows it.
abi:
	@scripts/abi.sh

clean:
	rm -rf build build-*
