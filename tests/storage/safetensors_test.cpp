#include "lorikeet/storage/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/core/temporary_folder.h"
#include "tests/storage/raw_file.h"

namespace lorikeet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

at::Tensor counting(at::IntArrayRef shape, at::ScalarType dtype) {
  int64_t numel = 1;
  for (const int64_t size : shape) numel *= size;
  return at::arange(numel, at::kLong).remainder(100).to(dtype).view(shape);
}

bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

TEST(Safetensors, EveryDtypeAndShapeComesBackBitForBit) {
  const TemporaryFolder folder;
  NamedTensors tensors;
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors.emplace_back(std::string("t.") + c10::toString(dtype), counting({3, 5}, dtype));
  }
  tensors.emplace_back("scalar", at::scalar_tensor(2.5));
  tensors.emplace_back("empty", at::empty({4, 0, 2}));
  save_safetensors(folder / "a.safetensors", tensors, {{{"step", "12"}}});
  const SafetensorsFile file(folder / "a.safetensors");
  EXPECT_EQ(file.names().size(), tensors.size());
  EXPECT_EQ(file.metadata().at("step"), "12");
  for (const auto& [name, tensor] : tensors) {
    EXPECT_EQ(file.info(name).shape, tensor.sizes().vec()) << name;
    EXPECT_TRUE(same(file.load(name), tensor)) << name;
    EXPECT_TRUE(same(file.view(name), tensor)) << name;
  }
}

TEST(Safetensors, StoresWhatANonContiguousTensorShows) {
  const TemporaryFolder folder;
  const at::Tensor base = counting({4, 6}, at::kFloat);
  save_safetensors(folder / "a.safetensors",
                   {{"transposed", base.t()}, {"strided", base.slice(1, 1, 6, 2)}});
  const SafetensorsFile file(folder / "a.safetensors");
  EXPECT_TRUE(at::equal(file.load("transposed"), base.t()));
  EXPECT_TRUE(at::equal(file.load("strided"), base.slice(1, 1, 6, 2)));
}

TEST(Safetensors, BytesDoNotDependOnTheOrderAndDataIsAligned) {
  const TemporaryFolder folder;
  const at::Tensor bytes = counting({3}, at::kByte), numbers = counting({5}, at::kDouble);
  const at::Tensor floats = counting({7}, at::kFloat);
  save_safetensors(folder / "a", {{"x", bytes}, {"y", numbers}, {"z", floats}});
  save_safetensors(folder / "b", {{"z", floats}, {"x", bytes}, {"y", numbers}});
  EXPECT_EQ(read_text_file(folder / "a", ExitCode::kCheckpoint),
            read_text_file(folder / "b", ExitCode::kCheckpoint));
  const SafetensorsFile file(folder / "a");
  EXPECT_EQ(file.info("y").offset % 8, 0u);
  EXPECT_EQ(file.info("z").offset % 4, 0u);
}

TEST(Safetensors, CastsFloatingPointOnlyWhenAsked) {
  const TemporaryFolder folder;
  save_safetensors(folder / "a", {{"f", counting({3}, at::kFloat)}, {"i", counting({3}, at::kInt)}},
                   {{}, at::kBFloat16});
  const SafetensorsFile file(folder / "a");
  EXPECT_TRUE(same(file.load("f"), counting({3}, at::kBFloat16)));
  EXPECT_TRUE(same(file.load("i"), counting({3}, at::kInt)));
}

TEST(Safetensors, TakesDataWhenItIsWrittenNotBefore) {
  const TemporaryFolder folder;
  const at::Tensor here = counting({3}, at::kFloat), later = counting({2, 5}, at::kFloat);
  const NamedTensors tensors = {{"a", here}, {"b", later.to(at::kMeta)}};
  SafetensorsOptions options;
  std::vector<std::string> asked;
  options.load = [&](const std::string& name) {
    asked.push_back(name);
    return later;
  };
  save_safetensors(folder / "a", tensors, options);
  save_safetensors(folder / "b", {{"a", here}, {"b", later}});
  EXPECT_EQ(read_text_file(folder / "a", ExitCode::kCheckpoint),
            read_text_file(folder / "b", ExitCode::kCheckpoint));
  EXPECT_THAT(asked, ElementsAre("b"));
  options.load = [&](const std::string&) { return here; };
  EXPECT_THAT(testing::error_of(ExitCode::kInternal,
                                [&] { save_safetensors(folder / "a", tensors, options); }),
              HasSubstr("'b' is not of its dtype and shape"));
  EXPECT_THAT(
      testing::error_of(ExitCode::kCheckpoint, [&] { save_safetensors(folder / "c", tensors); }),
      HasSubstr("no dense data"));
}

TEST(Safetensors, AViewOutlivesTheReaderAndTheFile) {
  const TemporaryFolder folder;
  const at::Tensor tensor = counting({1000}, at::kFloat);
  at::Tensor view;
  {
    save_safetensors(folder / "a", {{"x", tensor}});
    view = SafetensorsFile(folder / "a").view("x");
    std::filesystem::remove(folder / "a");
  }
  EXPECT_TRUE(at::equal(view, tensor));
}

TEST(Safetensors, LoadsDataThatIsNotAligned) {
  const TemporaryFolder folder;
  const float values[2] = {1.5F, -2.0F};
  const std::string data(reinterpret_cast<const char*>(values), sizeof values);
  for (size_t padding = 0; padding < 8; ++padding) {
    const std::string header =
        R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})" + std::string(padding, ' ');
    const SafetensorsFile file(
        testing::write_raw(folder / "a", testing::raw_safetensors(header, data)));
    EXPECT_TRUE(at::equal(file.load("x"), at::tensor({1.5F, -2.0F}))) << padding;
    EXPECT_TRUE(at::equal(file.view("x"), at::tensor({1.5F, -2.0F}))) << padding;
  }
}

TEST(Safetensors, AFileWithoutTensorsIsFine) {
  const TemporaryFolder folder;
  save_safetensors(folder / "a", {}, {{{"only", "metadata"}}});
  EXPECT_TRUE(SafetensorsFile(folder / "a").names().empty());
}

TEST(SafetensorsWriter, RefusesWhatTheFormatCannotHold) {
  const TemporaryFolder folder;
  const at::Tensor x = at::zeros({2});
  const auto error = [&](const NamedTensors& tensors) {
    return testing::error_of(ExitCode::kCheckpoint,
                             [&] { save_safetensors(folder / "a", tensors); });
  };
  EXPECT_THAT(error({{"x", x}, {"y", x}, {"x", x}}), HasSubstr("'x' is given twice"));
  EXPECT_THAT(error({{"__metadata__", x}}), HasSubstr("reserved"));
  EXPECT_THAT(error({{"x", at::Tensor()}}), HasSubstr("undefined"));
  EXPECT_THAT(error({{"x", at::zeros({2}, at::kComplexFloat)}}), HasSubstr("is not one of F64"));
  EXPECT_THAT(error({{"\xff\xfe", x}}), HasSubstr("UTF-8"));
  EXPECT_TRUE(folder.list().empty());
}

TEST(SafetensorsWriter, AFailedWriteLeavesTheOldFile) {
  const TemporaryFolder folder;
  const at::Tensor x = at::ones({2});
  save_safetensors(folder / "a", {{"x", x}});
  testing::error_of(ExitCode::kCheckpoint, [&] {
    save_safetensors(folder / "a", {{"x", at::zeros({2})}, {"y", at::Tensor()}});
  });
  EXPECT_TRUE(at::equal(SafetensorsFile(folder / "a").load("x"), x));
  EXPECT_THAT(folder.list(), ElementsAre("a"));
}

}  // namespace
}  // namespace lorikeet
