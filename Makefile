# SPDX-License-Identifier: Apache-2.0
# The two commands of the README, and no more build system than that: Meson is behind them.

BUILD ?= build
MESON_OPTIONS ?= --buildtype=release -Dwerror=false -Dtests=disabled -Dtool=enabled

.PHONY: all demo test install clean

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/setup.sh build
	@meson setup $(MESON_OPTIONS) $(BUILD)

demo:
	@scripts/setup.sh build
	@$(MAKE) --no-print-directory all
	@$(BUILD)/src/tool/lend demo $(DEMO)

test:
	@scripts/setup.sh test
	@python3 scripts/test.py $(SUITES)

install: all
	@meson install -C $(BUILD)

clean:
	rm -rf build build-*
