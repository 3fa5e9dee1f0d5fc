#include "lorikeet/train/sequence_cursor.h"

#include <gmock/gmock.h>

#include "tests/core/temporary_folder.h"
#include "tests/data/data_testing.h"

namespace lorikeet {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TemporaryFolder;
using Range = SequenceCursor::Range;

TEST(SequenceCursor, TakesOneAfterTheOther) {
  SequenceCursor cursor;
  EXPECT_THAT(cursor.take(3), ElementsAre(0, 1, 2));
  EXPECT_THAT(cursor.take(2), ElementsAre(3, 4));
  EXPECT_EQ(cursor.position(), 5);
  cursor.seek(1);
  EXPECT_THAT(cursor.take(1), ElementsAre(1));
}

TEST(SequenceCursor, LeavesOutSkippedRanges) {
  SequenceCursor cursor;
  cursor.skip({6, 8});
  cursor.skip({2, 4});
  EXPECT_THAT(cursor.skipped(), ElementsAre(Range{2, 4}, Range{6, 8}));
  EXPECT_THAT(cursor.take(5), ElementsAre(0, 1, 4, 5, 8));
  EXPECT_EQ(cursor.position(), 9);
  cursor.seek(3);  // inside a range
  EXPECT_THAT(cursor.take(2), ElementsAre(4, 5));
  cursor.seek(20);
  EXPECT_THAT(cursor.take(2), ElementsAre(20, 21));
}

TEST(SequenceCursor, LooksAheadAsItTakes) {
  for (const int64_t position : {0, 1, 3, 7, 9, 20}) {
    SequenceCursor cursor;
    for (const Range& range : {Range{2, 4}, {3, 6}, {6, 8}, {11, 12}}) cursor.skip(range);
    cursor.seek(position);
    std::vector<int64_t> ahead;
    for (int64_t n = 0; n < 8; ++n) ahead.push_back(cursor.peek(n));
    EXPECT_EQ(cursor.position(), position);
    EXPECT_EQ(ahead, cursor.take(8)) << "from " << position;
  }
}

TEST(SequenceCursor, LeavesOutRangesThatTouchOverlapOrRepeat) {
  SequenceCursor cursor;
  for (const Range& range : {Range{2, 4}, Range{4, 6}, Range{5, 9}, Range{2, 4}, Range{3, 5}}) {
    cursor.skip(range);
  }
  EXPECT_EQ(cursor.skipped().size(), 5u) << "one a rollback, so that rollbacks can be counted";
  EXPECT_THAT(cursor.take(4), ElementsAre(0, 1, 9, 10));
}

TEST(SequenceCursor, TheSameWhetherTakenAtOnceOrInParts) {
  SequenceCursor whole;
  whole.skip({1, 2});
  whole.skip({4, 7});
  SequenceCursor parts = whole;
  std::vector<int64_t> taken;
  for (int i = 0; i < 10; ++i) {
    SequenceCursor resumed = parts;  // as from a checkpoint: by position alone
    resumed.seek(parts.position());
    parts = resumed;
    taken.push_back(parts.take(1)[0]);
  }
  EXPECT_EQ(whole.take(10), taken);
}

TEST(SkippedData, ComesBackFromItsFileAndRefusesWhatIsNone) {
  const TemporaryFolder folder;
  const std::string path = folder / "skipped_data.json";
  EXPECT_THAT(read_skipped(path), IsEmpty());
  const std::vector<Range> ranges = {{2, 4}, {10, 18}};
  write_skipped(path, ranges);
  EXPECT_EQ(data_testing::read_text(path), "[[2,4],[10,18]]\n");
  EXPECT_EQ(read_skipped(path), ranges);
  for (const char* text : {"", "[[1,", "{\"a\": 1}", "[[\"x\", 2]]"}) {
    data_testing::write_text(path, text);
    EXPECT_THAT(error_of(ExitCode::kCheckpoint, [&] { read_skipped(path); }),
                ::testing::AllOf(HasSubstr(path), HasSubstr("hint: restore the file")))
        << text;
  }
}

}  // namespace
}  // namespace lorikeet
