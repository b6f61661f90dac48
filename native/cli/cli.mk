# The standalone program; included by ../Makefile.   make tinylm-cli   → $(BUILD)/tinylm-cli, no Python at run time
CLI := $(basename $(notdir $(wildcard cli/*.cpp)))
CLI_HEADERS := $(wildcard cli/*.h engine/*.h kernels/*.h)
CLI_FLAGS := $(CXXFLAGS) -Icli -Iengine -Ikernels -pthread -DTINYLM_VERSION='"$(shell sed -n 's/^version = "\(.*\)"/\1/p' ../pyproject.toml)"'

.PHONY: tinylm-cli
tinylm-cli: $(BUILD)/tinylm-cli
$(BUILD)/plain/cli/%.o: cli/%.cpp $(CLI_HEADERS)
	@mkdir -p $(@D)
	$(CXX) $(CLI_FLAGS) -c $< -o $@
$(BUILD)/tinylm-cli: $(addprefix $(BUILD)/plain/cli/,$(addsuffix .o,$(CLI))) $(addprefix $(BUILD)/plain/engine/,$(addsuffix .o,$(ENGINE))) $(addprefix $(BUILD)/plain/,$(addsuffix .o,$(COMMON) $(NATIVE)))
	$(CXX) $(CXXFLAGS) $^ -o $@ -pthread -static-libstdc++ -static-libgcc -s
