#!/usr/bin/env python3
"""Draws how the merged feed-forward's time grows, from `lorikeet bench merged-ffn --sweep --json`.

    plot_merged_ffn.py ROWS.jsonl OUT.svg

Left: time over a dense layer's against the number of experts, a curve for each segment length. Right: time against
tokens, a curve for each number of experts. Of the first dtype and hidden size in the rows.
"""
import json
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 240, 60, 40, 110
COLOURS = ("#1b6ca8", "#c8553d", "#3c8d53", "#8a5fb0", "#b8860b", "#555555", "#008b8b")


def ticks(largest, count=5):
    step = 10 ** len(str(int(largest / count))) / 10 if largest >= count else 0.1
    for factor in (1, 2, 2.5, 5, 10):
        if largest / (step * factor) <= count:
            step *= factor
            break
    return [i * step for i in range(int(largest / step + 1e-9) + 1)]


def panel(x0, title, x_label, y_label, curves, least_y):
    """One set of axes from zero; curves: {name: [(x, y), ...]}."""
    largest_x = max(x for points in curves.values() for x, _ in points)
    largest_y = max(y for points in curves.values() for _, y in points)
    place_x = lambda x: x0 + WIDTH * x / largest_x
    place_y = lambda y: TOP + HEIGHT * (1 - (y - least_y) / (largest_y - least_y))
    out = [f'<text x="{x0}" y="{TOP - 16}" font-weight="bold">{title}</text>',
           f'<path d="M{x0} {TOP}V{TOP + HEIGHT}H{x0 + WIDTH}" fill="none" stroke="#333"/>',
           f'<text x="{x0 + WIDTH / 2}" y="{TOP + HEIGHT + 38}" text-anchor="middle">{x_label}</text>',
           f'<text transform="translate({x0 - 44} {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">{y_label}</text>']
    for x in ticks(largest_x):
        out.append(f'<text x="{place_x(x):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{x:g}</text>')
    for y in ticks(largest_y - least_y):
        y += least_y
        out.append(f'<path d="M{x0} {place_y(y):.1f}H{x0 + WIDTH}" stroke="#ddd"/>'
                   f'<text x="{x0 - 6}" y="{place_y(y) + 4:.1f}" text-anchor="end">{y:g}</text>')
    for (name, points), colour in zip(curves.items(), COLOURS):
        points = sorted(points)
        line = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        out += [f'<circle cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        out.append(f'<text x="{place_x(x) + 5:.1f}" y="{place_y(y) + 4:.1f}" fill="{colour}">{name}</text>')
    return out


def main():
    rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8") if line.startswith("{")]
    first = rows[0]
    rows = [r for r in rows if r["form"] == "merged" and
            all(r[key] == first[key] for key in ("dtype", "hidden_size", "ffn_size"))]
    tokens = max(set(r["tokens"] for r in rows), key=lambda n: sum(r["tokens"] == n for r in rows))
    by_experts, by_tokens = {}, {}
    for r in rows:
        if r["tokens"] == tokens:
            by_experts.setdefault(f'T {r["segment_length"]}', []).append((r["num_experts"], r["over_dense"]))
        if r["segment_length"] == 256:
            by_tokens.setdefault(f'{r["num_experts"]} E', []).append((r["tokens"], r["forward_backward_ms"]))
    total = 2 * WIDTH + LEFT + GAP + 60
    shape = f'D {first["hidden_size"]}, F {first["ffn_size"]}, {first["dtype"]}'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{TOP + HEIGHT + 60}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{total}" height="{TOP + HEIGHT + 60}" fill="white"/>']
    out += panel(LEFT, f"{tokens} tokens, {shape}", "experts", "time over dense", by_experts, 1)
    out += panel(LEFT + WIDTH + GAP, f"T = 256, {shape}", "tokens", "forward + backward, ms", by_tokens, 0)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write("\n".join(out + ["</svg>", ""]))


if __name__ == "__main__":
    main()
