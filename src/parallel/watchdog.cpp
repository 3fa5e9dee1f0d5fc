#include "lorikeet/parallel/watchdog.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

namespace lorikeet {

namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

/// How far a rank has come in one group, from what it published: lines "group sequence what".
std::pair<int64_t, std::string> progress_in(const std::string& text, const std::string& group) {
  std::istringstream lines(text);
  std::string name, what;
  int64_t sequence = 0;
  while (lines >> name >> sequence && std::getline(lines >> std::ws, what)) {
    if (name == group) return {sequence, what};
  }
  return {0, "nothing yet"};
}

/// What a rank that ends for another that is stuck has found.
const std::string kFindingKey = "watchdog/finding";

std::string read(c10d::Store& store, const std::string& key) {
  if (!store.check({key})) return "";
  const std::vector<uint8_t> value = store.get(key);
  return {value.begin(), value.end()};
}

void write(c10d::Store& store, const std::string& key, const std::string& text) {
  store.set(key, std::vector<uint8_t>(text.begin(), text.end()));
}

/// Who has not come where `mine` waits.
std::string describe(c10d::Store& store, const CollectiveInFlight& mine, int rank, int world_size) {
  std::vector<std::string> behind;
  for (int other = 0; other < world_size; ++other) {
    if (other == rank) continue;
    const auto [sequence, what] = progress_in(read(store, Watchdog::key_of(other)), mine.group);
    if (sequence < mine.sequence) {
      behind.push_back(
          fmt::format("rank {} has not come (its latest: number {}, {})", other, sequence, what));
    }
  }
  return behind.empty() ? ": all ranks have come, the network does not answer"
                        : fmt::format(": {}", fmt::join(behind, "; "));
}

}  // namespace

/// What the watching and the talking thread share. An operation on the store has no time limit: the
/// talking thread hangs with the store's host, so nobody waits for it, and it keeps what it uses.
struct Watchdog::Talk {
  OpenStore open_store;
  int rank, world_size;
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<std::string> progress;  ///< to be published
  std::optional<CollectiveInFlight> question;
  std::optional<std::string> answer;
  bool is_finding_wanted = false;
  std::optional<std::string> finding;           ///< of another rank
  std::optional<Clock::time_point> busy_since;  ///< of what the talking thread does with the store
  bool is_stopped = false, has_ended = false;

  void run();
  void talk();
  std::string says_waiting(const CollectiveInFlight& mine) const;
  std::string ask(std::unique_lock<std::mutex>& lock, const CollectiveInFlight& mine,
                  milliseconds patience);
  std::string ask_for_finding(milliseconds patience);
};

void Watchdog::Talk::run() {
  try {
    talk();
  } catch (const std::exception&) {  // the store is gone; whoever needs it will say so
  }
  const std::lock_guard lock(mutex);
  busy_since.reset();
  has_ended = true;
  changed.notify_all();
}

std::string Watchdog::Talk::says_waiting(const CollectiveInFlight& mine) const {
  return fmt::format("rank {} has waited {:.1f} s in {} (number {} of group {})", rank,
                     mine.seconds, mine.what, mine.sequence, mine.group);
}

void Watchdog::Talk::talk() {
  std::unique_lock lock(mutex);
  const auto unlocked = [&](auto action) {
    busy_since = Clock::now();
    lock.unlock();
    action();
    lock.lock();
    busy_since.reset();
  };
  c10::intrusive_ptr<c10d::Store> store;
  unlocked([&] { store = open_store(); });
  for (;;) {
    const auto has_question = [&] { return question && !answer; };
    const auto has_wish = [&] { return is_finding_wanted && !finding; };
    changed.wait(lock, [&] { return is_stopped || progress || has_question() || has_wish(); });
    if (is_stopped) return;
    if (const auto text = std::exchange(progress, std::nullopt)) {
      unlocked([&] { write(*store, key_of(rank), *text); });
    }
    std::string said;
    if (has_question()) {
      unlocked([&, mine = *question] {
        said = says_waiting(mine) + describe(*store, mine, rank, world_size);
        write(*store, kFindingKey, said);
      });
      answer = said;
      changed.notify_all();
    }
    if (has_wish()) {
      unlocked([&] { said = read(*store, kFindingKey); });
      finding = said;
      changed.notify_all();
    }
  }
}

/// The answer, or that there is none.
std::string Watchdog::Talk::ask(std::unique_lock<std::mutex>& lock, const CollectiveInFlight& mine,
                                milliseconds patience) {
  question = mine;
  changed.notify_all();
  changed.wait_for(lock, patience, [&] { return answer || has_ended || is_stopped; });
  return answer.value_or(says_waiting(mine) + "; the ranks' meeting point does not answer");
}

/// What another rank has found, or nothing.
std::string Watchdog::Talk::ask_for_finding(milliseconds patience) {
  std::unique_lock lock(mutex);
  is_finding_wanted = true;
  changed.notify_all();
  changed.wait_for(lock, patience, [&] { return finding || has_ended || is_stopped; });
  return finding.value_or("");
}

Watchdog::Watchdog(CollectiveMonitor& monitor, OpenStore open_store, int rank, int world_size,
                   milliseconds timeout, std::function<void(const std::string&)> on_stuck)
    : monitor_(monitor),
      rank_(rank),
      timeout_(timeout),
      period_(std::clamp(timeout / 8, milliseconds(20), milliseconds(5000))),
      on_stuck_(std::move(on_stuck)),
      talk_(std::make_shared<Talk>()) {
  talk_->open_store = std::move(open_store);
  talk_->rank = rank;
  talk_->world_size = world_size;
  monitor.explain_failures_by(
      [talk = talk_] { return talk->ask_for_finding(std::chrono::seconds(2)); });
  talking_ = std::thread([talk = talk_] { talk->run(); });
  watching_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  bool has_ended;
  {
    std::unique_lock lock(talk_->mutex);
    talk_->is_stopped = true;
    talk_->changed.notify_all();
    has_ended =
        talk_->changed.wait_for(lock, std::chrono::seconds(1), [this] { return talk_->has_ended; });
  }
  has_ended ? talking_.join() : talking_.detach();
  watching_.join();
}

std::string Watchdog::key_of(int rank) { return fmt::format("watchdog/{}", rank); }

std::string Watchdog::progress(int64_t beat) const {
  std::string text = fmt::format("- {} alive\n", beat);  // so that each is another
  for (const auto& [group, progress] : monitor_.begun()) {
    text += fmt::format("{} {} {}\n", group, progress.first, progress.second);
  }
  return text;
}

void Watchdog::watch() {
  bool is_suspicious = false;
  std::unique_lock lock(talk_->mutex);
  for (int64_t beat = 1;
       !talk_->changed.wait_for(lock, period_, [this] { return talk_->is_stopped; }); ++beat) {
    const auto oldest = monitor_.oldest();
    const bool is_late =
        oldest && oldest->seconds > std::chrono::duration<double>(timeout_).count();
    // Later than what has a time limit of its own, and so a better message.
    const bool is_silent =
        talk_->busy_since && Clock::now() - *talk_->busy_since > timeout_ + period_;
    talk_->progress = progress(beat);
    talk_->changed.notify_all();
    // One period more, so that the others' latest word is there.
    if (is_suspicious && (is_late || is_silent)) {
      const std::string message =
          oldest ? talk_->ask(lock, *oldest,
                              std::clamp(timeout_, milliseconds(2000), milliseconds(10000)))
                 : fmt::format(
                       "rank {}: the ranks' meeting point has not answered for {:.1f} s", rank_,
                       std::chrono::duration<double>(Clock::now() - *talk_->busy_since).count());
      if (talk_->is_stopped) return;
      lock.unlock();
      return on_stuck_(message);
    }
    is_suspicious = is_late || is_silent;
  }
}

}  // namespace lorikeet
