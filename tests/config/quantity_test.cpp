#include "lorikeet/config/quantity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <stdexcept>

namespace lorikeet {
namespace {

template <class Parse>
std::string rule_broken(Parse parse, const std::string& text) {
  try {
    parse(text);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST(Count, ReadsDecimalMultipliersExactly) {
  EXPECT_EQ(parse_count("0").value, 0);
  EXPECT_EQ(parse_count("1048576").value, 1048576);
  EXPECT_EQ(parse_count("10K").value, 10'000);
  EXPECT_EQ(parse_count("1.5M").value, 1'500'000);
  EXPECT_EQ(parse_count("150B").value, 150'000'000'000);
  EXPECT_EQ(parse_count("2T").value, 2'000'000'000'000);
  EXPECT_EQ(parse_count("0.3B").value, 300'000'000);
  EXPECT_EQ(parse_count("3.0").value, 3);
  EXPECT_EQ(parse_count("9223372036854775807").value, INT64_MAX);
  EXPECT_EQ(parse_count("9.223372036854T").value, 9'223'372'036'854);
}

TEST(Count, RefusesWhatIsNoWholeNumber) {
  const std::string rule = "is not a whole number, such as 1048576, 1.5M or 150B";
  for (const char* text : {"", "abc", "1.5", "1.2345K", "1e3", "1e30", "1,000", "10 K", "10k", "K",
                           ".5K", "1.K", "0x10", "1KK", "nan", "inf", "+5", " 5", "5 "}) {
    EXPECT_EQ(rule_broken(parse_count, text), rule) << text;
  }
  EXPECT_EQ(rule_broken(parse_count, "-5"), "is negative");
  const std::string too_large = "is too large for a 64-bit whole number";
  EXPECT_EQ(rule_broken(parse_count, "99999999999999999999"), too_large);
  EXPECT_EQ(rule_broken(parse_count, "9223372036854775808"), too_large);
  EXPECT_EQ(rule_broken(parse_count, "10000000T"), too_large);
}

TEST(Count, TextIsTheShortestThatReadsBack) {
  EXPECT_EQ(to_string(Count{150'000'000'000}), "150B");
  EXPECT_EQ(to_string(Count{1'500'000}), "1.5M");
  EXPECT_EQ(to_string(Count{1'048'576}), "1048576");
  EXPECT_EQ(to_string(Count{1'050'000}), "1050K");
  EXPECT_EQ(to_string(Count{1500}), "1500");
  EXPECT_EQ(to_string(Count{0}), "0");
  EXPECT_EQ(to_string(Count{INT64_MAX}), "9223372036854775807");
}

TEST(Count, TextReadsBackForAnyNumber) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    int64_t value = static_cast<int64_t>(random() >> (1 + random() % 62));
    for (auto zeros = random() % 12; zeros > 0 && value < INT64_MAX / 10; --zeros) value *= 10;
    EXPECT_EQ(parse_count(to_string(Count{value})).value, value);
  }
}

TEST(Period, ReadsEachUnit) {
  EXPECT_EQ(parse_period("500steps"), Period::steps(500));
  EXPECT_EQ(parse_period("10Ktokens"), Period::tokens(10'000));
  EXPECT_EQ(parse_period("10Mtokens"), Period::tokens(10'000'000));
  EXPECT_EQ(parse_period("1.5Ksteps"), Period::steps(1500));
  EXPECT_EQ(parse_period("90s"), Period::seconds(90));
  EXPECT_EQ(parse_period("30min"), Period::seconds(1800));
  EXPECT_EQ(parse_period("2h"), Period::seconds(7200));
  EXPECT_EQ(parse_period("1.5h"), Period::seconds(5400));
  EXPECT_EQ(parse_period("5%"), Period::percent(5));
  EXPECT_EQ(parse_period("0.5%"), Period::percent(0.5));
  EXPECT_EQ(parse_period("never"), Period::never());
  EXPECT_TRUE(parse_period("0steps").is_never());
}

TEST(Period, WithoutAUnitSaysWhichUnitsThereAre) {
  EXPECT_EQ(rule_broken(parse_period, "500"),
            "has no unit; write 500steps, 500tokens, 500s, 500min, 500h or 500%");
  EXPECT_EQ(rule_broken(parse_period, "10M"),
            "has no unit; write 10Msteps, 10Mtokens, 10Ms, 10Mmin, 10Mh or 10M%");
}

TEST(Period, RefusesWhatIsNoPeriod) {
  EXPECT_EQ(rule_broken(parse_period, "1.5steps"), "is not a whole number of steps");
  EXPECT_EQ(rule_broken(parse_period, "1.2345Ktokens"), "is not a whole number of tokens");
  EXPECT_EQ(rule_broken(parse_period, "-5steps"), "is negative");
  EXPECT_EQ(rule_broken(parse_period, "101%"), "is more than 100%");
  EXPECT_EQ(rule_broken(parse_period, "2000Tsteps"), "is more than 1000T steps");
  EXPECT_EQ(rule_broken(parse_period, std::string(500, '9') + "%"), "is too long");
  EXPECT_EQ(rule_broken(parse_period, std::string(30, '9') + "h"), "is too long");
  for (const char* text :
       {"5days", "5 steps", "5step", "5STEPS", "5Kmin", "5%%", "5steps ", "1e3steps"}) {
    EXPECT_EQ(rule_broken(parse_period, text),
              "has an unknown unit; the units are steps, tokens, s, min, h and %")
        << text;
  }
  for (const char* text : {"", "steps", "%", "nan%", "Never", "inf%", ".5%", " 5%"}) {
    EXPECT_EQ(rule_broken(parse_period, text),
              "is not a period, such as 500steps, 10Mtokens, 30min, 5% or never")
        << text;
  }
}

TEST(Period, TextReadsBack) {
  for (const char* text :
       {"500steps", "10Mtokens", "1.5Mtokens", "90s", "30min", "2h", "5%", "0.5%", "never",
        "0steps", "0s", "0%", "100%", "0.1s", "1048576tokens"}) {
    EXPECT_EQ(to_string(parse_period(text)), text);
  }
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> share(0, 100);
  for (int i = 0; i < 5'000; ++i) {
    const double value = share(random) * (i % 3 == 0 ? 1e-9 : 1);
    for (const Period& period :
         {Period::percent(value), Period::seconds(value), Period::seconds(i * 60.0),
          Period::steps(std::floor(value * 1e6)), Period::tokens(i * 1000.0)}) {
      EXPECT_EQ(parse_period(to_string(period)), period) << to_string(period);
    }
  }
}

TEST(Period, BecomesTheNearestStepAndAtLeastOne) {
  EXPECT_EQ(Period::steps(500).to_steps(1000, 4096), 500);
  EXPECT_EQ(Period::tokens(10'000).to_steps(1000, 4096), 2);
  EXPECT_EQ(Period::tokens(10'500).to_steps(1000, 4096), 3);
  EXPECT_EQ(Period::tokens(1).to_steps(1000, 4096), 1);
  EXPECT_EQ(Period::percent(5).to_steps(143'051, 1'048'576), 7153);
  EXPECT_EQ(Period::percent(5).to_steps(3, 1), 1);
  EXPECT_EQ(Period::percent(0).to_steps(1000, 1), 0);
  EXPECT_EQ(Period::never().to_steps(1000, 1), 0);
  EXPECT_THROW(Period::seconds(5).to_steps(1000, 1), std::logic_error);
}

TEST(WithSeparators, GroupsThreeDigits) {
  EXPECT_EQ(with_separators(0), "0");
  EXPECT_EQ(with_separators(999), "999");
  EXPECT_EQ(with_separators(1000), "1,000");
  EXPECT_EQ(with_separators(1'826'652'160), "1,826,652,160");
  EXPECT_EQ(with_separators(-1'000'000), "-1,000,000");
  EXPECT_EQ(with_separators(-100), "-100");
}

}  // namespace
}  // namespace lorikeet
