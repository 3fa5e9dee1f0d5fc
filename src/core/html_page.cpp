#include "lorikeet/core/html_page.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace lorikeet {

namespace {

constexpr char kStyle[] = R"(<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 66rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
p.note { color: #5b6b7b; margin-top: 0.2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { padding: 0.25rem 0.7rem; border-bottom: 1px solid #e3e8ee; text-align: left; }
td.n, th.n { text-align: right; } tr.gap td { border-bottom: 2px solid #9fb0c0; }
td.title { max-width: 34rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: #445566; }
.a { fill: #0b7a75; } .b { fill: #d08c2b; }
.key { display: inline-block; width: 0.8em; height: 0.8em; margin-left: 0.8em; }
svg.key { width: 2em; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem 2rem; }
</style>)";

constexpr double kLeft = 56;
constexpr double kBottom = 24;
constexpr int kTicks = 4;

std::string stroke(const SeriesStyle& style, double width) {
  std::string text = fmt::format("stroke=\"{}\" stroke-width=\"{}\"", style.colour, width);
  if (!style.dashes.empty()) text += fmt::format(" stroke-dasharray=\"{}\"", style.dashes);
  return text;
}

}  // namespace

std::string html_page(const std::string& title, const std::string& body) {
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{0}</title>\n{1}</head><body>\n<h1>{0}</h1>\n{2}</body></html>\n",
      escape_html(title), kStyle, body);
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

SeriesStyle series_style(size_t index) {
  static constexpr std::array colours = {"#0b7a75", "#d08c2b", "#7b3fa0", "#2f6fb5",
                                         "#c0392b", "#6b8e23", "#8c5a3c", "#5b6b7b"};
  static constexpr std::array dashes = {"", "6 3", "2 3"};
  return {colours[index % colours.size()], dashes[index / colours.size() % dashes.size()]};
}

std::string series_key(const SeriesStyle& style) {
  return fmt::format(
      "<svg class=\"key\" viewBox=\"0 0 20 8\"><line x1=\"0\" x2=\"20\" y1=\"4\" y2=\"4\" "
      "{}/></svg>",
      stroke(style, 3));
}

Plot::Plot(Range x, Range y, const std::string& unit) : x_(x), y_(y) {
  if (!(x_.high > x_.low)) x_.high = x_.low + 1;
  if (!(y_.high > y_.low)) y_.high = y_.low + 1;
  for (int i = 0; i <= kTicks; ++i) {
    const double value = y_.low + (y_.high - y_.low) * i / kTicks;
    elements_ += fmt::format(
        "<line x1=\"{0}\" x2=\"{1}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#e3e8ee\"/>"
        "<text x=\"{3}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.3g}{6}</text>\n",
        kLeft, kWidth, this->y(value), kLeft - 5, this->y(value) + 4, value, escape_html(unit));
  }
  for (int i = 0; i <= kTicks; ++i) {
    const double value = x_.low + (x_.high - x_.low) * i / kTicks;
    elements_ += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{:.4g}</text>\n",
                             this->x(value), kHeight - 7,
                             i == 0 ? "start" : (i == kTicks ? "end" : "middle"), value);
  }
}

double Plot::x(double value) const {
  return kLeft + (kWidth - kLeft) * (value - x_.low) / (x_.high - x_.low);
}

double Plot::y(double value) const {
  return kHeight - kBottom - (kHeight - kBottom - kTop) * (value - y_.low) / (y_.high - y_.low);
}

void Plot::line(const std::vector<std::pair<double, double>>& points, const SeriesStyle& style) {
  std::string path;
  bool is_down = false;
  for (const auto& [at, value] : points) {
    if (!std::isfinite(value)) {
      is_down = false;
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f} ", is_down ? 'L' : 'M', x(at), y(value));
    is_down = true;
  }
  add(fmt::format("<path d=\"{}\" fill=\"none\" {}/>\n", path, stroke(style, 1.6)));
}

void Plot::band(const std::vector<std::pair<double, double>>& low,
                const std::vector<std::pair<double, double>>& high, const std::string& colour) {
  std::string corners;
  for (const auto& [at, value] : low) corners += fmt::format("{:.1f},{:.1f} ", x(at), y(value));
  for (auto point = high.rbegin(); point != high.rend(); ++point) {
    corners += fmt::format("{:.1f},{:.1f} ", x(point->first), y(point->second));
  }
  add(fmt::format("<polygon points=\"{}\" fill=\"{}\" fill-opacity=\"0.15\"/>\n", corners, colour));
}

std::string Plot::svg() const {
  return fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\">\n{}</svg>\n", kWidth, kHeight,
                     elements_);
}

}  // namespace lorikeet
