#include "json.h"

#include <set>
#include <vector>

#include "lorikeet/core/error.h"

namespace lorikeet::storage {

namespace {

constexpr const char* kDamagedHint = "the file is damaged or was edited: fetch or copy it again";

/// Sees every event of the parser, so that a repeated key is found (JSON libraries silently keep
/// one of the two) and depth is bounded before memory is spent on it.
class Watch {
 public:
  Watch(const std::string& what, int max_depth) : what_(what), max_depth_(max_depth) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= max_depth_) {
        throw Error(ExitCode::kCheckpoint,
                    fmt::format("{} is nested deeper than {} levels", what_, max_depth_),
                    kDamagedHint);
      }
    }
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      throw Error(ExitCode::kCheckpoint,
                  fmt::format("{} has the key {} twice", what_, shown(parsed)),
                  "keep one of the two");
    }
    return true;
  }

 private:
  const std::string& what_;
  int max_depth_;
  std::vector<std::set<std::string>> keys_;  // of the objects that are open
};

}  // namespace

Json parse_json_object(std::string_view text, const std::string& what, int max_depth) {
  Json json;
  try {
    Watch watch(what, max_depth);
    json = Json::parse(text, std::ref(watch));
  } catch (const Json::parse_error& error) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{} is not valid JSON (byte {})", what, error.byte), kDamagedHint);
  } catch (const Json::exception&) {  // a number beyond a double
    throw Error(ExitCode::kCheckpoint, what + " holds a number out of range",
                "write a number that a double can hold");
  }
  if (!json.is_object()) {
    throw Error(ExitCode::kCheckpoint, what + " is not a JSON object", kDamagedHint);
  }
  return json;
}

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace lorikeet::storage
