// What the tests that run the real program share: a tiny data set, its configuration, child
// processes.
#pragma once
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/data/data_testing.h"

namespace lorikeet::train_testing {

using data_testing::read_text;
using data_testing::write_text;
using lorikeet::testing::TemporaryFolder;
using Json = nlohmann::json;
using Settings = std::vector<std::string>;  ///< key=value

/// The program that was built with this test.
inline std::string program() {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "lorikeet").string();
}

/// Some 27,000 tokens in two domains, a tenth held out; made once a process.
inline const std::string& tiny_shards() {
  static const TemporaryFolder folder;
  static const std::string path = data_testing::make_dataset(
      folder, data_testing::make_lines(300, "news", 3) + data_testing::make_lines(300, "code", 4),
      0.1);
  return path;
}

/// How a child process ended, and what it said.
struct Ended {
  int code = -1;  ///< exit code; minus the signal for a killed one
  std::string out, err;
};

/// A child process; killed with the object.
class Child {
 public:
  Child(const std::vector<std::string>& arguments, const std::string& prefix)
      : out_(prefix + ".out"), err_(prefix + ".err") {
    std::vector<char*> argv;
    for (const std::string& argument : arguments) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    for (const auto& [file, descriptor] : {std::pair(&out_, 1), std::pair(&err_, 2)}) {
      ::dup2(::open(file->c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0644), descriptor);
    }
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Child() {
    if (pid_ > 0) {
      send(SIGKILL);
      wait();
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void send(int signal) const { ::kill(pid_, signal); }
  bool is_running() {
    if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_) pid_ = 0;
    return pid_ > 0;
  }
  Ended wait() {
    if (pid_ > 0) ::waitpid(pid_, &status_, 0);
    pid_ = 0;
    const int code = WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
    return {code, read_text(out_), read_text(err_)};
  }
  /// Until `condition` holds; false where the process ended first.
  bool wait_until(const std::function<bool()>& condition) {
    while (!condition()) {
      if (!is_running()) return condition();
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    return true;
  }

 private:
  std::string out_, err_;
  pid_t pid_ = 0;
  int status_ = 0;
};

/// Runs in a folder of the test's own: OUTPUT/NAME by name.
class TrainProgram : public ::testing::Test {
 protected:
  TrainProgram() { write_text(config_, base_config()); }

  /// About 10,000 parameters, a few milliseconds a step.
  static std::string base_config() {
    return "model: {hidden_size: 16, num_layers: 2, num_heads: 2, ffn_size: 24, vocab_size: 400,\n"
           "  context_length: 32, feed_forward: {kind: merged, num_experts: 4, "
           "segment_length: 8, router_init_std: 0.5}}\n"
           "train: {device: cpu, steps: 30, batch_sequences: 4, micro_batch: 2, threads: 1}\n"
           "schedule: {peak: 1e-2}\n"
           "checkpoint: {every: 10steps}\n"
           "evaluate: {every: never, batches: 2}\n"
           "log: {every: 1steps, tensorboard: false, peak_flops: 1e9}\n"
           "data: {shards: " +
           tiny_shards() + "}\n";
  }
  /// Steps of some 20 ms or more, so that a signal finds the run in its middle.
  static Settings slow_steps() {
    return {"model.hidden_size=64", "model.ffn_size=172", "model.context_length=128",
            "model.feed_forward.segment_length=32"};
  }

  Child start(const std::string& name, const Settings& settings = {},
              const std::vector<std::string>& options = {}) {
    std::vector<std::string> arguments = {program(), command_, config_};
    for (const std::string& setting : Settings{"name=" + name, "output=" + folder_.path()}) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    for (const std::string& setting : settings) {
      arguments.insert(arguments.end(), {"--set", setting});
    }
    arguments.insert(arguments.end(), options.begin(), options.end());
    return Child(arguments, folder_ / name);
  }
  Ended run(const std::string& name, const Settings& settings = {},
            const std::vector<std::string>& options = {}) {
    return start(name, settings, options).wait();
  }
  /// The same for a run that must succeed.
  void finish(const std::string& name, const Settings& settings = {},
              const std::vector<std::string>& options = {}) {
    const Ended ended = run(name, settings, options);
    ASSERT_EQ(ended.code, 0) << ended.err;
    EXPECT_EQ(status(name).at("state"), "finished");
  }

  std::string file(const std::string& name, const std::string& what) const {
    return folder_ / name + "/" + what;
  }
  bool exists(const std::string& name, const std::string& what) const {
    return std::filesystem::exists(file(name, what));
  }
  Json status(const std::string& name) const {
    return Json::parse(read_text(file(name, "status.json")));
  }
  std::vector<std::string> checkpoints(const std::string& name) const {
    return folder_.list(file(name, "checkpoints"));
  }
  std::string model_bytes(const std::string& name) const {
    return read_text(file(name, "model/model.safetensors"));
  }
  /// Lines of metrics.jsonl, a half one at the end left out.
  std::vector<Json> metrics(const std::string& name) const {
    std::vector<Json> rows;
    if (!exists(name, "metrics.jsonl")) return rows;
    std::istringstream text(read_text(file(name, "metrics.jsonl")));
    for (std::string line; std::getline(text, line) && !text.eof();) {
      rows.push_back(Json::parse(line));
    }
    return rows;
  }
  /// The rows of training steps, without what depends on the clock or the machine.
  std::vector<Json> course(const std::string& name) const {
    std::vector<Json> rows;
    for (Json row : metrics(name)) {
      if (!row.contains("loss")) continue;
      for (const char* key : {"tokens_per_second", "data_share", "peak_memory_bytes", "mfu"}) {
        row.erase(key);
      }
      rows.push_back(std::move(row));
    }
    return rows;
  }
  std::vector<double> losses(const std::string& name) const {
    std::vector<double> values;
    for (const Json& row : course(name)) {
      values.push_back(row["loss"].is_null() ? NAN : row["loss"].get<double>());
    }
    return values;
  }
  int64_t logged_step(const std::string& name) const {
    const std::vector<Json> rows = metrics(name);
    return rows.empty() ? 0 : rows.back().at("step").get<int64_t>();
  }
  /// kill -9 once `step` is logged and the checkpoint before it is whole.
  void kill_at(const std::string& name, int64_t step, const Settings& settings) {
    const std::string checkpoint = fmt::format("checkpoints/step_{:08}", step / 10 * 10);
    Child child = start(name, settings);
    child.wait_until([&] { return logged_step(name) >= step && exists(name, checkpoint); });
    child.send(SIGKILL);
    const Ended ended = child.wait();
    ASSERT_EQ(ended.code, -SIGKILL) << "it ended before it was killed: " << ended.err;
  }
  /// Equal rows, to the last bit of every number.
  static void expect_same(const std::vector<Json>& a, const std::vector<Json>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]);
  }
  /// The two runs went the same way, to the last bit.
  void expect_same(const std::string& a, const std::string& b) const {
    expect_same(course(a), course(b));
    EXPECT_TRUE(model_bytes(a) == model_bytes(b)) << "the weights differ";
  }

  std::string command_ = "pretrain";
  const TemporaryFolder folder_;
  const std::string config_ = folder_ / "run.yaml";
};

inline Settings operator+(Settings settings, const Settings& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

}  // namespace lorikeet::train_testing
