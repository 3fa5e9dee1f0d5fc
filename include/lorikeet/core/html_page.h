#pragma once
#include <string>
#include <utility>
#include <vector>

namespace lorikeet {

/// A page that stands alone, so that it can be sent and kept: style, text and plots are all in it.
/// Classes for `body`: n (a number's cell), note, plots (a grid), key (a legend's mark), title (a
/// cell that is cut), gap (a row before another group).
std::string html_page(const std::string& title, const std::string& body);

std::string escape_html(const std::string& text);

/// How a series is drawn.
struct SeriesStyle {
  std::string colour;
  std::string dashes = "";  ///< SVG's stroke-dasharray; "": a whole line
};

/// Styles of series, in order: eight colours, apart from each other for people who see few colours,
/// too; then the same dashed, then dotted.
SeriesStyle series_style(size_t index);
/// A piece of such a line, for a legend.
std::string series_key(const SeriesStyle& style);

/// A plot in SVG: axes with five ticks each, and what is drawn over them.
class Plot {
 public:
  struct Range {
    double low = 0, high = 1;
  };
  static constexpr double kWidth = 460, kHeight = 210, kTop = 10;

  /// @param unit behind the numbers of the y axis
  Plot(Range x, Range y, const std::string& unit = "");

  /// Places in the picture.
  double x(double value) const;
  double y(double value) const;

  /// Points whose value is not finite interrupt the line.
  void line(const std::vector<std::pair<double, double>>& points, const SeriesStyle& style);
  /// Between `low` and `high`, which have the same x values.
  void band(const std::vector<std::pair<double, double>>& low,
            const std::vector<std::pair<double, double>>& high, const std::string& colour);
  /// Anything else, in SVG.
  void add(const std::string& element) { elements_ += element; }

  std::string svg() const;

 private:
  Range x_, y_;
  std::string elements_;
};

}  // namespace lorikeet
