"""Charts as SVG: lines over an axis, bars in groups. A mean over seeds has a whisker of one standard deviation."""

import math
from html import escape

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 720, 400, 70, 60, 60


class Chart:
    def __init__(self, title, unit, names, low, high, right=210):
        self.parts = []
        self.right = WIDTH - right
        ticks = round_ticks(low, high)
        self.low, self.high = ticks[0], ticks[-1]
        self.text(LEFT, 28, title, size=16, anchor="start", weight="bold")
        self.text(LEFT, 46, unit, anchor="start", colour="#555")
        for value in ticks:
            y = self.y(value)
            self.line(LEFT, y, self.right, y, "#ddd")
            self.text(LEFT - 8, y + 4, f"{value:.3g}", anchor="end", colour="#555")
        for number, name in enumerate(names):
            y = TOP + 20 + 22 * number
            self.parts.append(
                f'<rect x="{self.right + 16}" y="{y - 10}" width="12" height="12" fill="{COLOURS[number % 6]}"/>')
            self.text(self.right + 34, y, name, anchor="start")

    def y(self, value):
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - BOTTOM - TOP)

    def text(self, x, y, text, size=12, anchor="middle", colour="#222", weight="normal"):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{colour}">{escape(str(text))}</text>')

    def line(self, x1, y1, x2, y2, colour, width=1):
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>')

    def whisker(self, x, mean, deviation, colour):
        self.line(x, self.y(mean - deviation), x, self.y(mean + deviation), colour, 1.5)

    def svg(self):
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
            'font-family="DejaVu Sans, Helvetica, sans-serif">\n'
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n' + "\n".join(self.parts) + "\n</svg>\n")


def round_ticks(low, high):
    """Four to eight round numbers around all values."""
    span = (high - low) or 1
    unit = 10 ** math.floor(math.log10(span))
    step = next(unit * factor for factor in (0.2, 0.5, 1, 2) if span / (unit * factor) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return [step * number for number in range(first, last + 1)]


def bounds(series):
    values = [mean + sign * deviation for points in series.values() for mean, deviation in points for sign in (-1, 1)]
    return min(values), max(values)


def lines(title, unit, axis, places, series):
    """`series`: name to (mean, deviation) at each of `places`, which are evenly spaced whatever they say."""
    low, high = bounds(series)
    chart = Chart(title, unit, series, min(low, 0) if low < high / 2 else low, high)
    step = (chart.right - LEFT - 40) / max(1, len(places) - 1)
    xs = [LEFT + 20 + step * number for number in range(len(places))]
    for x, place in zip(xs, places):
        chart.text(x, HEIGHT - BOTTOM + 18, place)
    chart.text((LEFT + chart.right) / 2, HEIGHT - 16, axis)
    for number, points in enumerate(series.values()):
        colour = COLOURS[number % 6]
        path = " ".join(f"{x:.1f},{chart.y(mean):.1f}" for x, (mean, _) in zip(xs, points))
        chart.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, (mean, deviation) in zip(xs, points):
            chart.parts.append(f'<circle cx="{x:.1f}" cy="{chart.y(mean):.1f}" r="3.5" fill="{colour}"/>')
            chart.whisker(x, mean, deviation, colour)
    return chart.svg()


def bars(title, unit, places, series):
    """A group of bars at each place. They begin at zero where that leaves something to see, else below the lowest."""
    low, high = bounds(series)
    chart = Chart(title, unit, series, 0 if low < 0.7 * high else low, high)
    room = (chart.right - LEFT) / len(places)
    width = min(46, room * 0.8 / len(series))
    for place, name in enumerate(places):
        middle = LEFT + room * (place + 0.5)
        chart.text(middle, HEIGHT - BOTTOM + 18, name)
        for number, points in enumerate(series.values()):
            mean, deviation = points[place]
            x = middle + (number - len(series) / 2) * width
            top = chart.y(mean)
            chart.parts.append(
                f'<rect x="{x + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" '
                f'height="{HEIGHT - BOTTOM - top:.1f}" fill="{COLOURS[number % 6]}"/>')
            chart.whisker(x + width / 2, mean, deviation, "#222")
    return chart.svg()
