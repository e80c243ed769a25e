# vecfs: one non-recursive Makefile.  `make help` lists the targets.
#
# Objects live in build/<cc>-<variant>/<folder>/, so variants never mix; any
# change of flags rebuilds.  CFLAGS and LDFLAGS are the user's, added last.

CC      ?= cc
PREFIX  ?= /usr/local
DESTDIR ?=
V       ?= 0

comma   := ,
variant := $(if $(SAN),san-$(subst $(comma),-,$(SAN)),release)$(if $(DEBUG),-debug)
B       := build/$(notdir $(firstword $(CC)))-$(subst $(comma),-,$(variant))
BIN     := $(if $(SAN)$(DEBUG),$(B)/bin,build/bin)

VERSION := $(shell sed -n 's/^.define VF_VERSION "\(.*\)"/\1/p' store/vecfs.h)

# ---- what it is made of ------------------------------------------------------

vecquery_src := query/main.c $(wildcard query/cli_*.c)
lib_src   := $(wildcard store/*.c) $(wildcard index/*.c) \
             $(filter-out $(vecquery_src),$(wildcard query/*.c))
vecfs_src := $(wildcard fs/*.c)
vectool_src := $(filter-out tools/example.c,$(wildcard tools/*.c))
test_src  := tests/main.c $(wildcard tests/test_*.c)
fuzz_src  := $(wildcard tests/fuzz_*.c)
bench_src := $(wildcard bench/bench_*.c)

obj = $(patsubst %.c,$(B)/%.o,$(1))
programs  := $(BIN)/vecfs $(BIN)/vecquery $(BIN)/vectool
example   := $(BIN)/example # of the library; not installed
benches   := $(patsubst bench/%.c,$(BIN)/%,$(bench_src)) $(BIN)/null_fs

# ---- flags --------------------------------------------------------------------

pc = $(shell pkg-config $(1) $(2) 2>/dev/null)
LIBS_PC := libcurl libcrypto libzstd expat jansson libxxhash liburing
ours_cflags := -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -O2 -g \
	-fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wvla -Werror=implicit-function-declaration \
	-Werror=incompatible-pointer-types -Wno-unused-parameter \
	$(call pc,--cflags,$(LIBS_PC)) -pthread
ours_ldflags := -pthread
ours_libs := $(call pc,--libs,$(LIBS_PC)) -llmdb -lm
ifdef SAN
ours_cflags += -fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer -O1
ours_ldflags += -fsanitize=$(SAN)
endif
ifdef DEBUG
ours_cflags += -O0 -DVF_DIAGNOSTIC
endif
ifdef WERROR
ours_cflags += -Werror
endif
fuse_cflags := $(call pc,--cflags,fuse3)
fuse_libs   := $(call pc,--libs,fuse3)
cunit_libs  := $(call pc,--libs,cunit)
format_libs := $(call pc,--libs,hdf5-serial zlib)

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-5s %s\n' $(1) $(2))

.DEFAULT_GOAL := all
.PHONY: all check check-build bench bench-build fuzz fuzz-build lint format \
	format-check layers headers install deps deps-check demo clean help e2e \
	unit unit-build
.SUFFIXES:

all: deps-check $(programs) $(example)

# ---- packages ---------------------------------------------------------------------
# name of the package: what proves that it is there (a pkg-config module, a header
# or a program)

# (libhdf5, zlib: only vectool, for import and export of HDF5 and .npz; there is
# no other reader of HDF5)
PACKAGES := libfuse3-dev=pc:fuse3 fuse3=bin:fusermount3 \
	libcurl4-openssl-dev=pc:libcurl libssl-dev=pc:libcrypto \
	libzstd-dev=pc:libzstd liburing-dev=pc:liburing liblmdb-dev=h:lmdb.h \
	libcunit1-dev=pc:cunit libexpat1-dev=pc:expat libjansson-dev=pc:jansson \
	libxxhash-dev=pc:libxxhash libhdf5-dev=pc:hdf5-serial \
	zlib1g-dev=pc:zlib pkg-config=bin:pkg-config gcc=bin:gcc \
	libc6-dev=h:stdio.h

# What the tests and the demo run besides the programs.
# (gnuplot: the pictures of vectool recall)
TEST_PACKAGES := jq=bin:jq zstd=bin:zstd python3-numpy=py:numpy curl=bin:curl \
	gnuplot-nox=bin:gnuplot

hash := \#
missing = $(shell for p in $(1); do n=$${p%%=*}; t=$${p$(hash)*=}; w=$${t$(hash)*:}; \
	case $$t in \
	(pc:*) pkg-config --exists $$w 2>/dev/null ;; \
	(bin:*) command -v $$w >/dev/null ;; \
	(h:*) test -e /usr/include/$$w ;; \
	(py:*) /usr/bin/python3 -c "import $$w" 2>/dev/null ;; \
	esac || printf '%s ' $$n; done)

deps:
	$(Q)want="$(call missing,$(PACKAGES) $(TEST_PACKAGES))"; \
	[ -n "$$want" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
		echo "needed (Debian's names): $$want"; exit 1; fi; \
	[ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y \
		--no-install-recommends $$want

deps-check:
	$(Q)want="$(call missing,$(PACKAGES))"; [ -z "$$want" ] || { \
	echo "missing packages; to install them:  make deps" >&2; \
	echo "which runs:  apt-get install -y --no-install-recommends $$want" >&2; \
	exit 1; }

deps-test-check: deps-check
	$(Q)want="$(call missing,$(TEST_PACKAGES))"; [ -z "$$want" ] || { \
	echo "missing packages; to install them:  make deps" >&2; \
	echo "which runs:  apt-get install -y --no-install-recommends $$want" >&2; \
	exit 1; }
.PHONY: deps-test-check

# ---- objects and programs ------------------------------------------------------------

flags_now := $(CC) $(ours_cflags) $(CFLAGS) $(ours_ldflags) $(LDFLAGS)
flags_file := $(B)/flags
ifneq ($(file <$(flags_file)),$(flags_now))
$(shell mkdir -p $(B))
$(file >$(flags_file),$(flags_now))
endif

$(B)/fs/%.o $(B)/bench/null_fs.o: ours_cflags += $(fuse_cflags)

$(B)/tools/format_hdf5.o $(B)/tests/test_format_hdf5.o: ours_cflags += $(call pc,--cflags,hdf5-serial)

$(B)/%.o: %.c $(flags_file)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ours_cflags) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/libvecfs.a: $(call obj,$(lib_src))
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

link = $(Q)mkdir -p $(@D) && $(CC) $(ours_ldflags) $(LDFLAGS) -o $@ \
	$(filter %.o,$^) $(B)/libvecfs.a $(ours_libs)

$(BIN)/vecfs: $(call obj,$(vecfs_src)) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link) $(fuse_libs)
$(BIN)/vecquery: $(call obj,$(vecquery_src)) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/vectool: $(call obj,$(vectool_src)) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link) $(format_libs)
$(BIN)/example: $(call obj,tools/example.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/unit: $(call obj,$(test_src) $(wildcard tools/format*.c) tools/zip.c \
		tools/scratchfile.c tools/interrupt.c tools/relay.c \
		tools/sorter.c tools/kept_tree.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link) $(cunit_libs) $(format_libs)
$(BIN)/s3sim: $(call obj,$(wildcard tests/s3sim*.c)) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/bench_mount: $(call obj,bench/bench_mount.c $(wildcard bench/mount_*.c)) \
		$(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/bench_query: $(call obj,bench/bench_query.c bench/mount_rig.c bench/mount_reads.c ) \
		$(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/bench_filter: $(call obj,bench/bench_filter.c bench/mount_rig.c \
		bench/mount_reads.c tools/matrix.c tools/rows.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/bench_index: $(call obj,bench/bench_index.c $(wildcard bench/index_*.c) \
		bench/mount_rig.c bench/mount_reads.c tools/matrix.c tools/rows.c) \
		$(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/bench_write: $(call obj,bench/bench_write.c $(wildcard bench/write_*.c) \
		bench/mount_rig.c bench/mount_reads.c $(filter-out tools/main.c \
		tools/example.c tools/cmd_%.c,$(wildcard tools/*.c))) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link) $(format_libs)
$(BIN)/null_fs: $(call obj,bench/null_fs.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link) $(fuse_libs)
.SECONDARY: # objects of programs that pattern rules link stay
$(BIN)/bench_%: $(B)/bench/bench_%.o $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/fuzz_formats: $(call obj,tests/fuzz_formats.c tests/fuzz.c $(wildcard tools/format*.c) \
		tools/zip.c tools/scratchfile.c tools/interrupt.c tools/lines.c tools/jsonl.c \
		tools/numbers.c tools/rows.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link) $(format_libs)
$(BIN)/fuzz_jsonl: $(call obj,tests/fuzz_jsonl.c tests/fuzz.c tools/jsonl.c tools/numbers.c) \
		$(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/model_commit: $(call obj,tests/model_commit.c tests/model_steps.c)
	$(call say,LD,$@)
	$(link)
$(BIN)/rivals: $(call obj,tests/rivals.c tests/rivals_check.c \
		tests/faulty_bucket.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/flips: $(call obj,tests/flips.c tools/audit.c tools/audit_rows.c \
		tools/objectsum.c tools/plain.c \
		tools/walk.c tools/progress.c \
		tools/interrupt.c) $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)
$(BIN)/fuzz_%: $(B)/tests/fuzz_%.o $(B)/tests/fuzz.o $(B)/libvecfs.a
	$(call say,LD,$@)
	$(link)

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- tests -------------------------------------------------------------------------------

unit-build: $(BIN)/unit
unit: unit-build
	$(Q)$(WRAP) $(BIN)/unit $(SUITE)

e2e: $(programs) $(example) $(BIN)/s3sim $(BIN)/model_commit $(BIN)/rivals \
		$(BIN)/flips
	$(Q)BIN=$(BIN) tests/e2e.sh $(E2E)

# Sanitized programs are some ten times slower: fewer queries there.
check: export VF_E2E_QUERIES ?= $(if $(SAN),20,0)
check: export VF_FLIPS_STEP ?= $(if $(SAN),40,5)
check-build: deps-test-check $(programs) $(example) $(BIN)/unit $(BIN)/s3sim \
		$(BIN)/model_commit $(BIN)/rivals $(BIN)/flips
check: check-build
	$(Q)BIN=$(BIN) WRAP="$(WRAP)" tests/check.sh

# What differs on another CPU, built for it and run in an emulator.
ARM64_CC  ?= aarch64-linux-gnu-gcc
ARM64_RUN ?= qemu-aarch64
arm64_src := tests/main.c tests/test_kernels.c tests/test_kernels_bits.c \
	tests/test_rotate.c index/kernels.c index/kernels_neon.c \
	index/kernels_bits.c index/kernels_bits_neon.c index/rotate.c \
	store/util.c

build/arm64/unit: $(arm64_src) $(wildcard index/*.h tests/*.h store/*.h \
		tests/cross/CUnit/*.h) $(flags_file) Makefile
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(ARM64_CC) $(filter-out -I%,$(ours_cflags)) -I. -Itests/cross \
		-static -o $@ $(arm64_src) -lm
check-arm64:
	$(Q)command -v $(ARM64_CC) $(ARM64_RUN) >/dev/null || { echo \
	"needed: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" \
	>&2; exit 1; }
	$(Q)$(MAKE) --no-print-directory build/arm64/unit
	$(Q)$(ARM64_RUN) build/arm64/unit
.PHONY: check-arm64

FUZZ_SECONDS ?= 20
fuzzers := $(patsubst tests/%.c,$(BIN)/%,$(fuzz_src))
fuzz-build: $(fuzzers)
fuzz: fuzz-build # two at a time; 255 ends xargs
	$(Q)printf '%s\n' $(fuzzers) | xargs -P 2 -I{} sh -c \
		'said=$$({} -t $(FUZZ_SECONDS) 2>&1); rc=$$?; \
		printf "  FUZZ  {}\n%s\n" "$$said"; [ $$rc = 0 ] || exit 255'

# Those that need no arguments; a bar that is missed is a failure at the end.
BENCH ?= kernels policy put passthrough mount query index write
bench-build: $(programs) $(benches) $(BIN)/s3sim
bench: bench-build
	$(Q)rc=0; for b in $(BENCH); do echo "== bench_$$b"; \
		$(BIN)/bench_$$b || rc=1; done; exit $$rc

demo: deps-test-check $(programs)
	$(Q)BIN=$(BIN) tools/demo.sh

# ---- style -----------------------------------------------------------------------------------

all_c := $(wildcard store/*.[ch] index/*.[ch] query/*.[ch] fs/*.[ch] \
	tools/*.[ch] tests/*.[ch] bench/*.[ch])

format:
	clang-format -i $(all_c)
format-check:
	$(Q)clang-format --dry-run --Werror $(all_c)

layers:
	$(Q)tests/layers.sh

headers:
	$(Q)for h in $(wildcard */*.h); do \
		f="$(ours_cflags) $(fuse_cflags)"; \
		echo "#include \"$$h\"" | $(CC) $$f -Werror -fsyntax-only -x c - \
		|| { echo "$$h does not compile alone"; exit 1; }; done
	$(Q)for h in $$($(CC) $(ours_cflags) -MM $(PUBLIC_HEADERS) | grep -o '[a-z0-9_/]*\.h' | \
		sort -u); do case " $(PUBLIC_HEADERS) " in (*" $$h "*) ;; \
		(*) echo "$$h: a public header includes it, but it is not installed"; \
		exit 1 ;; esac; done

lint:
	$(Q)cppcheck --quiet --std=c11 --enable=warning,portability,performance \
		--inline-suppr --error-exitcode=1 -I. -D__x86_64__ $(filter %.c,$(all_c))

# ---- install ------------------------------------------------------------------------------------

PUBLIC_HEADERS := store/vecfs.h store/bucket.h store/state.h store/commit.h store/cache.h \
	index/index.h index/encoder.h query/query.h \
	store/log.h store/util.h index/topk.h # what those include

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig \
		$(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/man/man7
	install $(programs) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(B)/libvecfs.a $(DESTDIR)$(PREFIX)/lib
	for h in $(wildcard $(PUBLIC_HEADERS)); do \
		install -D -m 644 $$h $(DESTDIR)$(PREFIX)/include/vecfs/$$h; done
	install -m 644 $(wildcard tools/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(wildcard tools/man/*.7) $(DESTDIR)$(PREFIX)/share/man/man7
	printf '%s\n' 'prefix=$(PREFIX)' 'Name: vecfs' 'Version: $(VERSION)' \
		'Description: vectors in S3, searched through a mount' \
		'Requires: $(LIBS_PC)' 'Cflags: -I$${prefix}/include/vecfs' \
		'Libs: -L$${prefix}/lib -lvecfs -llmdb -lm -pthread' \
		> $(DESTDIR)$(PREFIX)/lib/pkgconfig/vecfs.pc

# What is installed works without this folder: the programs, and a program that
# is built as the head of tools/example.c says.
install-check:
	$(Q)tests/install.sh '$(MAKE)'
.PHONY: install-check

clean:
	rm -rf build

help:
	@echo "make            the three programs, in build/bin"
	@echo "make deps       install missing Debian packages"
	@echo "make check      all tests      (SAN=address,undefined  SAN=thread  WRAP=valgrind)"
	@echo "make unit       unit tests     (SUITE=store/npy)"
	@echo "make e2e        end-to-end     (E2E=mount)"
	@echo "make demo       import, mount and search real documents"
	@echo "make bench      run the benchmarks      (BENCH=\"mount policy\"; bench-build)"
	@echo "make check-arm64  kernels cross-compiled, under qemu-user"
	@echo "make fuzz       fuzz every parser (FUZZ_SECONDS=20)"
	@echo "make layers headers format-check lint format install clean"
