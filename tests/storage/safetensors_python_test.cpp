// Against the `safetensors` package of Hugging Face, where the Python of the dependency folder has
// it (pip install safetensors).
#include <gtest/gtest.h>

#include <cstdlib>

#include "lorikeet/storage/safetensors.h"
#include "tests/core/temporary_folder.h"
#include "tests/storage/raw_file.h"
#include "tests/support/python.h"

namespace lorikeet {
namespace {

using testing::TemporaryFolder;

class SlowSafetensorsPython : public ::testing::Test {
 protected:
  void SetUp() override {
    if (python_.empty()) GTEST_SKIP() << "no Python with the safetensors package was found";
  }
  /// Runs a program with the folder as its argument; true if it succeeds.
  bool run(const std::string& program) {
    testing::write_raw(folder_ / "program.py", program);
    return std::system((python_ + " " + (folder_ / "program.py") + " " + folder_.path()).c_str()) ==
           0;
  }
  TemporaryFolder folder_;
  const std::string python_ = testing::find_python("safetensors");
};

TEST_F(SlowSafetensorsPython, ReadsOurFiles) {
  save_safetensors(folder_ / "ours.safetensors",
                   {{"bytes", at::arange(3, at::kByte)},
                    {"transposed", at::arange(6, at::kFloat).view({2, 3}).t()},
                    {"half", at::full({2}, 1.5, at::kBFloat16)},
                    {"flags", at::tensor({1, 0}).to(at::kBool)},
                    {"scalar", at::scalar_tensor(7, at::kLong)},
                    {"empty", at::empty({0, 2})}},
                   {{{"format", "pt"}}});
  EXPECT_TRUE(run(R"(
import sys, torch
from safetensors import safe_open
from safetensors.torch import load_file
path = sys.argv[1] + '/ours.safetensors'
t = load_file(path)
assert sorted(t) == ['bytes', 'empty', 'flags', 'half', 'scalar', 'transposed'], sorted(t)
assert torch.equal(t['bytes'], torch.arange(3, dtype=torch.uint8))
assert torch.equal(t['transposed'], torch.arange(6.).view(2, 3).t())
assert torch.equal(t['half'], torch.full((2,), 1.5, dtype=torch.bfloat16))
assert torch.equal(t['flags'], torch.tensor([True, False]))
assert t['scalar'].shape == () and t['scalar'].item() == 7
assert t['empty'].shape == (0, 2)
assert safe_open(path, 'pt').metadata() == {'format': 'pt'}
)"));
}

TEST_F(SlowSafetensorsPython, WritesFilesThatWeRead) {
  ASSERT_TRUE(run(R"(
import sys, torch
from safetensors.torch import save_file
save_file({'a': torch.arange(6.).view(2, 3), 'b': torch.full((3,), 1.5, dtype=torch.bfloat16),
           'c': torch.tensor([True, False, True]), 'd': torch.tensor(-5, dtype=torch.int16)},
          sys.argv[1] + '/theirs.safetensors', metadata={'who': 'python'})
)"));
  const SafetensorsFile file(folder_ / "theirs.safetensors");
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_EQ(file.metadata().at("who"), "python");
  EXPECT_TRUE(at::equal(file.load("a"), at::arange(6, at::kFloat).view({2, 3})));
  EXPECT_TRUE(at::equal(file.load("b"), at::full({3}, 1.5, at::kBFloat16)));
  EXPECT_TRUE(at::equal(file.load("c"), at::tensor({1, 0, 1}).to(at::kBool)));
  EXPECT_EQ(file.load("d").item<int64_t>(), -5);
}

}  // namespace
}  // namespace lorikeet
