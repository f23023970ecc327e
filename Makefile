# SPDX-License-Identifier: LGPL-2.1-or-later
# make demo | demo-shell | check | check-fast | lint | install | uninstall | clean

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

VENV = $(HOME)/.cache/iscsiboot/venv
RENDER = $(PYTHON) -B programs/render.py "$(PYTHON)" "$(LIBDIR)" "$(SBINDIR)" "$(HOOKDIR)"

SOURCES = $(shell find iscsiboot -name '*.py')
DATA = $(shell find iscsiboot -type f ! -name '*.py' ! -name '*.pyc')
UNITS = iscsiboot-root.service iscsiboot-root-mounted.service
HOOKFILES = hooks/mark-root-mounted.sh
HOOKDATA = hooks/iscsiboot.modules-load.conf hooks/iscsiboot-root.ibft.conf
DOCS = $(wildcard README.md ARCHITECTURE.md NEWS.md COPYING LICENSE docs/*.md dracut-module/README.md)
MAN8 = $(wildcard docs/man/*.8)

.DEFAULT_GOAL := help
.PHONY: help demo demo-shell check check-fast lint venv install uninstall clean

help:
	@sed -n '2s/^# //p' Makefile
	@echo 'install takes PREFIX ($(PREFIX)), DESTDIR, PYTHON, DRACUTDIR; demo and check take ARGS'

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
	@"$(VENV)/bin/python" -m pytest $(ARGS)

# Everything but the virtual machines, as an ordinary user or as root.
check-fast: venv
	@"$(VENV)/bin/python" -m pytest -m "not boot" $(ARGS)

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
	$(RENDER) < programs/iscsistart.in > "$(DESTDIR)$(SBINDIR)/iscsistart"; \
	chmod 755 "$(DESTDIR)$(BINDIR)/iscsiboot" "$(DESTDIR)$(SBINDIR)/iscsistart"; \
	for unit in $(UNITS); do \
	    $(RENDER) < "hooks/$$unit.in" > "$(DESTDIR)$(UNITDIR)/$$unit"; \
	    chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit"; \
	done; \
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
	$(PYTHON) -I -m compileall -q -s "$(DESTDIR)" "$(DESTDIR)$(LIBDIR)/iscsiboot"

uninstall:
	@rm -rf "$(DESTDIR)$(LIBDIR)" "$(DESTDIR)$(DRACUTMODULE)" "$(DESTDIR)$(DOCDIR)"
	@rm -f "$(DESTDIR)$(BINDIR)/iscsiboot" "$(DESTDIR)$(SBINDIR)/iscsistart" \
	    $(UNITS:%="$(DESTDIR)$(UNITDIR)/%") $(foreach page,$(MAN8),"$(DESTDIR)$(MANDIR)/man8/$(notdir $(page))")

clean:
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@rm -rf build .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
