# The engine's tests and fuzz targets; included by Makefile.
#   make test-engine      plain      make asan-engine, tsan-engine   under sanitizers
#   make fuzz             each libFuzzer target for FUZZ_SECONDS (needs clang++-14 or another clang with libFuzzer)
#   make replay           all saved inputs and crashes under ASan, with any compiler
FUZZ_SECONDS ?= 20
# A clang++ that links libFuzzer: Debian keeps that library in a package of its own.
PROBE := extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }
ifndef CLANG
CLANG := $(shell for c in clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14; do \
  echo '$(PROBE)' | $$c -fsanitize=fuzzer,address -x c++ - -o /dev/null 2>/dev/null && echo $$c && break; done)
endif
ENGINE := $(basename $(notdir $(wildcard engine/*.cpp)))
ENGINE_HEADERS := $(wildcard engine/*.h kernels/*.h kernels/*.inl tests/*.h)
ENGINE_INCLUDES := -Iengine -Ikernels -Itests -pthread

.PHONY: test-engine asan-engine tsan-engine fuzz replay
test-engine: $(BUILD)/plain/test_engine
	$<
asan-engine: $(BUILD)/asan/test_engine
	$<
tsan-engine: $(BUILD)/tsan/test_engine
	$<
test: test-engine
asan: asan-engine
tsan: tsan-engine

# $(1): flavour, $(2): compiler and its flags
define engine_flavour
$(BUILD)/$(1)/engine/%.o: engine/%.cpp $(ENGINE_HEADERS)
	@mkdir -p $$(@D)
	$(2) $(ENGINE_INCLUDES) -c $$< -o $$@
$(BUILD)/$(1)/test_engine.o: tests/test_engine.cpp $(ENGINE_HEADERS)
	@mkdir -p $$(@D)
	$(2) $(ENGINE_INCLUDES) -c $$< -o $$@
$(BUILD)/$(1)/fuzz_%.o: fuzz/fuzz_%.cpp $(ENGINE_HEADERS)
	@mkdir -p $$(@D)
	$(2) $(ENGINE_INCLUDES) -c $$< -o $$@
$(BUILD)/$(1)/test_engine: $(BUILD)/$(1)/test_engine.o $(addprefix $(BUILD)/$(1)/engine/,$(addsuffix .o,$(ENGINE))) $(addprefix $(BUILD)/$(1)/,$(addsuffix .o,$(COMMON) $(NATIVE)))
	$(2) $$^ -o $$@ -pthread
endef
SANITIZE := -O1 -g -fno-omit-frame-pointer
$(eval $(call engine_flavour,plain,$(CXX) $(CXXFLAGS)))
$(eval $(call engine_flavour,asan,$(CXX) $(CXXFLAGS) $(SANITIZE) -fsanitize=address$(comma)undefined -fno-sanitize-recover=all))
$(eval $(call engine_flavour,tsan,$(CXX) $(CXXFLAGS) $(SANITIZE) -fsanitize=thread))

# Fuzzing: the loader and the scheduler are what is attacked. The loader's target packs weights with sanitized kernels, the scalar
# ones; the scheduler's takes kernels as they are, which makes many times the runs in the same seconds.
FUZZ_TARGETS := model_file scheduler
FUZZ_SOURCES := $(wildcard engine/*.cpp)
FUZZ_KERNELS_model_file := $(addprefix kernels/,$(addsuffix .cpp,$(COMMON)))
FUZZ_KERNELS_scheduler := $(addprefix $(BUILD)/plain/,$(addsuffix .o,$(COMMON) $(NATIVE)))
FUZZ_PARTS := $(FUZZ_SOURCES) $(FUZZ_KERNELS_model_file) $(FUZZ_KERNELS_scheduler) $(ENGINE_HEADERS)
FUZZ_FLAGS := -std=c++17 -ffp-contract=off $(SANITIZE) -fsanitize=address$(comma)undefined -fno-sanitize-recover=all $(ENGINE_INCLUDES)
$(BUILD)/fuzz/%: fuzz/fuzz_%.cpp $(FUZZ_PARTS)
	@mkdir -p $(@D)
	$(CLANG) $(FUZZ_FLAGS) -fsanitize=fuzzer $< $(FUZZ_SOURCES) $(FUZZ_KERNELS_$*) -o $@
$(BUILD)/replay/%: fuzz/fuzz_%.cpp fuzz/replay_main.cpp $(FUZZ_PARTS)
	@mkdir -p $(@D)
	$(CXX) $(FUZZ_FLAGS) $< fuzz/replay_main.cpp $(FUZZ_SOURCES) $(FUZZ_KERNELS_$*) -o $@
replay: $(addprefix $(BUILD)/replay/,$(FUZZ_TARGETS))
	for target in $(FUZZ_TARGETS); do $(BUILD)/replay/$$target fuzz/corpus/$$target || exit 1; done
ifeq ($(CLANG),)
fuzz:
	@echo "fuzz: skipped, no clang++ with libFuzzer found; install clang, or run: make replay"
else
fuzz: $(addprefix $(BUILD)/fuzz/,$(FUZZ_TARGETS))
	for target in $(FUZZ_TARGETS); do mkdir -p $(BUILD)/corpus/$$target && \
	  $(BUILD)/fuzz/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
	    -artifact_prefix=fuzz/corpus/$$target/crash- $(BUILD)/corpus/$$target fuzz/corpus/$$target > $(BUILD)/$$target.log 2>&1; status=$$?; \
	  tail -12 $(BUILD)/$$target.log; [ $$status = 0 ] || exit $$status; done
endif
