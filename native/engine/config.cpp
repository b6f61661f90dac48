#include "config.h"

#include <initializer_list>
#include <string>
#include <utility>

#include "errors.h"
#include "json.h"

namespace tinylm::engine {

namespace {

// Reads fields one by one and refuses the config if any is missing or left over.
class Fields {
 public:
  explicit Fields(const Json::Object& object) : object_(object) {}

  int64_t integer(std::string_view name, int64_t low, int64_t high) {
    return take(name).integer(label(name), low, high);
  }
  bool boolean(std::string_view name) { return take(name).boolean(label(name)); }

  // For a field that older files do not have.
  bool boolean_or(std::string_view name, bool otherwise) { return object_.count(name) ? boolean(name) : otherwise; }

  int64_t integer_or(std::string_view name, int64_t otherwise, int64_t low, int64_t high) {
    return object_.count(name) ? integer(name, low, high) : otherwise;
  }

  double number(std::string_view name, double low, double high) {
    const double value = take(name).number(label(name));
    if (value < low || value > high) throw FormatError(label(name) + " is " + std::to_string(value) + ", out of range");
    return value;
  }

  template <typename Enum>
  Enum choice(std::string_view name, std::initializer_list<std::pair<std::string_view, Enum>> allowed) {
    const std::string& found = take(name).string(label(name));
    for (const auto& [text, value] : allowed)
      if (found == text) return value;
    throw FormatError(label(name) + " is '" + found.substr(0, 40) + "', which this engine does not know");
  }

  std::vector<bool> layer_set(std::string_view name, int64_t layers) {
    std::vector<bool> set(static_cast<size_t>(layers));
    for (const Json& entry : take(name).array(label(name)))
      set[static_cast<size_t>(entry.integer(label(name), 0, layers - 1))] = true;
    return set;
  }

  // Numbers in low..high, at most `most` of them; none where an older file does not have the field.
  std::vector<int64_t> integers_or_none(std::string_view name, size_t most, int64_t low, int64_t high) {
    std::vector<int64_t> values;
    if (!object_.count(name)) return values;
    for (const Json& entry : take(name).array(label(name))) values.push_back(entry.integer(label(name), low, high));
    if (values.size() > most) throw FormatError(label(name) + " has too many entries");
    return values;
  }

  void finish() const {
    if (taken_ != object_.size()) throw FormatError("config has fields that this engine does not know");
  }

 private:
  static std::string label(std::string_view name) { return "config field " + std::string(name); }

  const Json& take(std::string_view name) {
    const auto found = object_.find(name);
    if (found == object_.end()) throw FormatError(label(name) + " is missing");
    ++taken_;
    return found->second;
  }

  const Json::Object& object_;
  size_t taken_ = 0;
};

void check(bool good, const char* what) {
  if (!good) throw FormatError(std::string("config: ") + what);
}

void read_sizes(Fields& fields, Config& c) {
  c.vocab_size = fields.integer("vocab_size", 1, 1 << 20);
  c.context_length = fields.integer("context_length", 1, 1 << 20);
  c.n_layers = fields.integer("n_layers", 1, 1024);
  c.n_heads = fields.integer("n_heads", 1, 1024);
  c.n_kv_heads = fields.integer("n_kv_heads", 1, 1024);
  c.d_model = fields.integer("d_model", 1, 1 << 16);
  c.d_ff = fields.integer("d_ff", 1, 1 << 18);
  const int64_t head_dim = fields.integer("head_dim", 0, 1024);
  check(head_dim || c.d_model % c.n_heads == 0, "n_heads must divide d_model");
  check(c.n_heads % c.n_kv_heads == 0, "n_kv_heads must divide n_heads");
  c.head_dim = head_dim ? head_dim : c.d_model / c.n_heads;
}

void read_kinds(Fields& fields, Config& c) {
  using kernels::Activation;
  c.norm = fields.choice<NormKind>("norm", {{"rmsnorm", NormKind::rmsnorm}, {"layernorm", NormKind::layernorm}});
  c.position = fields.choice<PositionKind>(
      "position",
      {{"rope", PositionKind::rope}, {"learned", PositionKind::learned}, {"sinusoidal", PositionKind::sinusoidal}});
  c.activation = fields.choice<Activation>("activation", {{"swiglu", Activation::swiglu},
                                                          {"gelu", Activation::gelu},
                                                          {"gelu_tanh", Activation::gelu_tanh},
                                                          {"relu2", Activation::relu2}});
}

void read_parts(Fields& fields, Config& c) {
  c.bias = fields.boolean("bias");
  c.tied_embeddings = fields.boolean("tied_embeddings");
  c.qk_norm = fields.boolean("qk_norm");
  c.parallel_residual = fields.boolean("parallel_residual");
  c.value_embeddings = fields.boolean_or("value_embeddings", false);
  c.ngram_rows = fields.integers_or_none("ngram_rows", kMaxNgramTables, 1, 1 << 24);
  c.copy_ngrams = fields.integer_or("copy_ngrams", 0, 0, kMaxCopyNgrams);
  c.local_window = fields.integer("local_window", 0, 1 << 30);
  c.is_local = fields.layer_set("local_layers", c.n_layers);
}

void read_numbers(Fields& fields, Config& c) {
  c.logit_softcap = static_cast<float>(fields.number("logit_softcap", 0, 1e6));
  c.rope_theta = fields.number("rope_theta", 1e-6, 1e12);
  c.norm_eps = static_cast<float>(fields.number("norm_eps", 0, 1));
  c.rotary_dim = static_cast<int64_t>(static_cast<double>(c.head_dim) * fields.number("rotary_fraction", 0, 1));
  check(c.position != PositionKind::rope || (c.rotary_dim > 0 && c.rotary_dim % 2 == 0),
        "rotated width of a head must be even and positive");
  check(c.position != PositionKind::sinusoidal || c.d_model % 2 == 0, "sinusoidal positions need an even d_model");
}

}  // namespace

Config parse_config(std::string_view json) {
  const Json document = Json::parse(json);
  Fields fields(document.object("config"));
  Config c{};
  read_sizes(fields, c);
  read_kinds(fields, c);
  read_parts(fields, c);
  read_numbers(fields, c);
  fields.finish();
  return c;
}

}  // namespace tinylm::engine
