# SPDX-License-Identifier: LGPL-2.1-or-later
# make demo | demo-shell | check | check-all | check-fast | lint | install | install-init | uninstall | clean

PREFIX ?= /usr/local
DESTDIR ?=
PYTHON ?= /usr/bin/python3
ARGS ?=

LIBDIR = $(PREFIX)/lib/iscsiboot
HOOKDIR = $(LIBDIR)/hooks
BINDIR = $(PREFIX)/bin
SBINDIR = $(PREFIX)/sbin
UNITDIR = $(PREFIX)/lib/systemd/system
# dracut looks in /usr/lib/dracut only: with another PREFIX, set this too.
DRACUTDIR ?= $(PREFIX)/lib/dracut/modules.d
DRACUTMODULE = $(DRACUTDIR)/95iscsiboot
DOCDIR = $(PREFIX)/share/doc/iscsiboot
MANDIR = $(PREFIX)/share/man
UDEVDIR = $(PREFIX)/lib/udev/rules.d
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
# The programs read /etc/iscsi/iscsid.conf; outside /usr an installation puts its sample beside itself.
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
CONF = $(SYSCONFDIR)/iscsi/iscsid.conf

VENV = $(HOME)/.cache/iscsiboot/venv
# What goes into which is in tests/lanes.py; "-n 0" among ARGS runs everything in one, as --pdb wants it.
LANES = -n 2 --no-loadscope-reorder
RENDER = $(PYTHON) -B programs/render.py "$(PYTHON)" "$(LIBDIR)" "$(SBINDIR)" "$(HOOKDIR)"

SOURCES = $(shell find iscsiboot -name '*.py')
DATA = $(shell find iscsiboot -type f ! -name '*.py' ! -name '*.pyc')
SBINPROGRAMS = iscsistart iscsiadm iscsid iscsi-iname iscsi_discovery iscsi_fw_login
UNITS = iscsiboot-root.service iscsiboot-root-mounted.service
# systemd's units of the running machine; those above are an initramfs's.
DAEMONUNITS = iscsid.service iscsi.service
SOCKETS = iscsid.socket
# For machines without systemd: "make install-init INIT=openrc" (or sysv).
INIT ?= sysv
INITDIR = $(SYSCONFDIR)/init.d
HOOKFILES = hooks/mark-root-mounted.sh
HOOKDATA = hooks/iscsiboot.modules-load.conf hooks/iscsiboot-root.ibft.conf
DOCS = $(wildcard README.md ARCHITECTURE.md NEWS.md COPYING LICENSE docs/*.md dracut-module/README.md)
MAN8 = $(wildcard docs/man/*.8)
MAN5 = $(wildcard docs/man/*.5)
RULES = 50-iscsi-firmware-login.rules

.DEFAULT_GOAL := help
.PHONY: help demo demo-shell check check-all check-fast lint venv install install-init uninstall clean

help:
	@sed -n '2s/^# //p' Makefile
	@echo 'install takes PREFIX ($(PREFIX)), DESTDIR, PYTHON, DRACUTDIR, SYSCONFDIR; install-init INIT; demo and check ARGS'

demo:
	@sh tools/setup.sh demo
	@$(PYTHON) tools/demo.py $(ARGS)

demo-shell:
	@sh tools/setup.sh demo
	@$(PYTHON) tools/demo.py --shell $(ARGS)

venv: $(VENV)/requirements-dev.txt

$(VENV)/requirements-dev.txt: requirements-dev.txt
	@$(PYTHON) -m venv --system-site-packages "$(VENV)"
	@"$(VENV)/bin/pip" install --quiet --disable-pip-version-check -r requirements-dev.txt
	@cp requirements-dev.txt "$@"

check:
	@sh tools/setup.sh check
	@$(MAKE) --no-print-directory venv
	@"$(VENV)/bin/python" -m pytest $(LANES) $(ARGS)

# The same, with every command of the comparison in the guest (tests/qemu/admin/native.py plays half of them here).
check-all: export ISCSIBOOT_CHECK_ALL = 1
check-all: check

# Everything but the virtual machines, as an ordinary user or as root.
check-fast: venv
	@"$(VENV)/bin/python" -m pytest $(LANES) -m "not boot" $(ARGS)

lint: venv
	@"$(VENV)/bin/ruff" check .
	@"$(VENV)/bin/ruff" format --check .
	@"$(VENV)/bin/mypy"
	@shellcheck -x .ci/run $(shell find dracut-module hooks tools -name '*.sh' -o -name '*.sh.in')

install:
	@set -e; \
	for file in $(SOURCES) $(DATA); do \
	    install -D -p -m 644 "$$file" "$(DESTDIR)$(LIBDIR)/$$file"; \
	done; \
	for file in $(HOOKFILES); do install -D -p -m 755 "$$file" "$(DESTDIR)$(HOOKDIR)/$${file##*/}"; done; \
	for file in $(HOOKDATA); do install -D -p -m 644 "$$file" "$(DESTDIR)$(HOOKDIR)/$${file##*/}"; done; \
	install -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(SBINDIR)" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(DRACUTMODULE)"; \
	$(RENDER) < programs/iscsiboot.in > "$(DESTDIR)$(BINDIR)/iscsiboot"; \
	for program in $(SBINPROGRAMS); do \
	    $(RENDER) < "programs/$$program.in" > "$(DESTDIR)$(SBINDIR)/$$program"; \
	    chmod 755 "$(DESTDIR)$(SBINDIR)/$$program"; \
	done; \
	chmod 755 "$(DESTDIR)$(BINDIR)/iscsiboot"; \
	: "libvirt runs bin/iscsiadm, which Debian's open-iscsi has too"; \
	[ "$(DESTDIR)$(BINDIR)" -ef "$(DESTDIR)$(SBINDIR)" ] \
	    || ln -sfr "$(DESTDIR)$(SBINDIR)/iscsiadm" "$(DESTDIR)$(BINDIR)/iscsiadm"; \
	for unit in $(UNITS); do \
	    $(RENDER) < "hooks/$$unit.in" > "$(DESTDIR)$(UNITDIR)/$$unit"; \
	    chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit"; \
	done; \
	for unit in $(DAEMONUNITS); do \
	    $(RENDER) < "systemd/$$unit.in" > "$(DESTDIR)$(UNITDIR)/$$unit"; \
	    chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit"; \
	done; \
	for unit in $(SOCKETS); do install -p -m 644 "systemd/$$unit" "$(DESTDIR)$(UNITDIR)/$$unit"; done; \
	for file in dracut-module/95iscsiboot/*.sh; do \
	    install -p -m 755 "$$file" "$(DESTDIR)$(DRACUTMODULE)/$${file##*/}"; \
	done; \
	for file in dracut-module/95iscsiboot/*.sh.in; do \
	    name=$${file##*/}; name=$${name%.in}; \
	    $(RENDER) < "$$file" > "$(DESTDIR)$(DRACUTMODULE)/$$name"; \
	    chmod 755 "$(DESTDIR)$(DRACUTMODULE)/$$name"; \
	done; \
	for file in $(DOCS); do install -D -p -m 644 "$$file" "$(DESTDIR)$(DOCDIR)/$${file##*/}"; done; \
	for file in $(MAN8); do install -D -p -m 644 "$$file" "$(DESTDIR)$(MANDIR)/man8/$${file##*/}"; done; \
	for file in $(MAN5); do install -D -p -m 644 "$$file" "$(DESTDIR)$(MANDIR)/man5/$${file##*/}"; done; \
	install -d "$(DESTDIR)$(UDEVDIR)"; \
	for rule in $(RULES); do \
	    $(RENDER) < "hooks/$$rule.in" > "$(DESTDIR)$(UDEVDIR)/$$rule"; \
	    chmod 644 "$(DESTDIR)$(UDEVDIR)/$$rule"; \
	done; \
	for name in iscsiadm iscsiboot; do \
	    install -D -p -m 644 "programs/completion/$$name.bash" "$(DESTDIR)$(BASHDIR)/$$name"; \
	    install -D -p -m 644 "programs/completion/$$name.zsh" "$(DESTDIR)$(ZSHDIR)/_$$name"; \
	    install -D -p -m 644 "programs/completion/$$name.fish" "$(DESTDIR)$(FISHDIR)/$$name.fish"; \
	done; \
	[ -e "$(DESTDIR)$(CONF)" ] || install -D -p -m 600 etc/iscsid.conf "$(DESTDIR)$(CONF)"; \
	$(PYTHON) -I -m compileall -q -s "$(DESTDIR)" "$(DESTDIR)$(LIBDIR)/iscsiboot"

install-init:
	@set -e; \
	test -e "init/iscsid.$(INIT).in" || { echo "INIT is openrc or sysv, not $(INIT)" >&2; exit 1; }; \
	install -d "$(DESTDIR)$(INITDIR)"; \
	$(RENDER) < "init/iscsid.$(INIT).in" > "$(DESTDIR)$(INITDIR)/iscsid"; \
	chmod 755 "$(DESTDIR)$(INITDIR)/iscsid"

uninstall:
	@rm -rf "$(DESTDIR)$(LIBDIR)" "$(DESTDIR)$(DRACUTMODULE)" "$(DESTDIR)$(DOCDIR)"
	@rm -f "$(DESTDIR)$(BINDIR)/iscsiboot" "$(DESTDIR)$(BINDIR)/iscsiadm" $(SBINPROGRAMS:%="$(DESTDIR)$(SBINDIR)/%") \
	    $(UNITS:%="$(DESTDIR)$(UNITDIR)/%") $(DAEMONUNITS:%="$(DESTDIR)$(UNITDIR)/%") \
	    $(SOCKETS:%="$(DESTDIR)$(UNITDIR)/%") $(foreach page,$(MAN8),"$(DESTDIR)$(MANDIR)/man8/$(notdir $(page))") \
	    $(foreach page,$(MAN5),"$(DESTDIR)$(MANDIR)/man5/$(notdir $(page))") $(RULES:%="$(DESTDIR)$(UDEVDIR)/%") \
	    "$(DESTDIR)$(BASHDIR)/iscsiadm" "$(DESTDIR)$(ZSHDIR)/_iscsiadm" "$(DESTDIR)$(FISHDIR)/iscsiadm.fish" \
	    "$(DESTDIR)$(BASHDIR)/iscsiboot" "$(DESTDIR)$(ZSHDIR)/_iscsiboot" "$(DESTDIR)$(FISHDIR)/iscsiboot.fish"
	@for script in openrc sysv; do \
	    [ "$$($(RENDER) < "init/iscsid.$$script.in")" = "$$(cat "$(DESTDIR)$(INITDIR)/iscsid" 2>/dev/null)" ] \
	        && rm -f "$(DESTDIR)$(INITDIR)/iscsid"; \
	done; :
	@if cmp -s etc/iscsid.conf "$(DESTDIR)$(CONF)"; then rm -f "$(DESTDIR)$(CONF)"; fi

clean:
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@rm -rf build .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
