// A curve with a band, as SVG, which is drawn again when its width or its numbers change. A cursor follows the pointer or the arrow keys
// and shows the values at its position.

import { make, number, say, whole } from "./page.js";

/** Steps that are closer than this, in pixels, are drawn as one point with their spread; a line through all of them would be unreadable. */
const closest = 3;
const margin = { left: 52, right: 14, top: 10, bottom: 26 };

/** About `count` ticks from `low` to `high`, at multiples of 1, 2 or 5 times a power of ten, at least `least`. */
export function ticks(low, high, count, least = 0) {
  const raw = (high - low) / Math.max(1, count);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(least, [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) * power);
  const result = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) result.push(Number((n * step).toPrecision(12)));
  return result;
}

/** Powers of ten, with 2 and 5 times them if there is room. */
export function logTicks(low, high, room) {
  const factors = Math.log10(high / low) * 3 <= room ? [1, 2, 5] : [1];
  const result = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const factor of factors) if (factor * power >= low && factor * power <= high) result.push(factor * power);
  }
  return result;
}

export class Chart {
  /** - name: for screen readers; unit(value): a value with its unit; tick(value, gap): a value at the axis, whose ticks are `gap` apart. */
  constructor({ name, unit, tick, fromZero = false }) {
    Object.assign(this, { name, unit, tick, fromZero });
    this.isLog = false;
    this.cursor = null;
    this.data = { points: [], marks: [], dots: [], gaps: [] };
    this.drawn = [];
    this.readout = make("output.readout", { "aria-live": "off" });
    this.svg = make("svg.plot", { role: "img", "aria-label": name });
    this.box = make("div.chart", {
      tabindex: "0", role: "slider", "aria-label": `${name}: step`, "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0",
      onkeydown: (event) => this.key(event), onpointermove: (event) => this.point(event),
      onpointerdown: (event) => this.point(event), onpointerleave: () => this.move(null), onblur: () => this.move(null),
    }, this.svg);
    this.element = make("div.figure", {}, this.readout, this.box);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.box);
  }

  close() { this.observer.disconnect(); }

  /** points: {first, last, low, mean, high}; dots: {step, value, text}; marks: {step, text}; gaps: {first, last, text}, where steps were not applied */
  set(data, isLog) {
    this.data = { points: data.points.filter((point) => number(point.mean) !== null), dots: data.dots ?? [], marks: data.marks ?? [], gaps: data.gaps ?? [] };
    this.isLog = isLog;
    this.draw();
  }

  x(step) {
    const { start, end } = this.range;
    const place = this.isLog ? Math.log(Math.max(step, start) / start) / Math.log(end / start) : (step - start) / (end - start);
    return margin.left + place * this.inner.width;
  }

  y(value) {
    const { low, high } = this.range;
    return margin.top + (1 - (value - low) / (high - low)) * this.inner.height;
  }

  draw() {
    const width = this.box.clientWidth, height = this.box.clientHeight;
    const { points, dots, marks, gaps } = this.data;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!points.length) {
      this.drawn = [];
      this.svg.replaceChildren(make("text.axis.middle", { x: width / 2, y: height / 2 }, gaps.length ? "no step was applied" : "no step yet"));
      return say(this.readout, "");
    }
    this.inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
    const last = points[points.length - 1].last, first = points[0].first;
    const values = points.flatMap((point) => [point.low, point.high]).concat(dots.map((dot) => dot.value));
    let low = this.fromZero ? 0 : Math.min(...values), high = Math.max(...values);
    if (high <= low) [low, high] = [low - Math.abs(low) * 0.05 - 0.01, high + Math.abs(high) * 0.05 + 0.01];
    const room = (high - low) * 0.05;
    this.range = { start: this.isLog ? Math.max(1, first) : first <= last / 20 ? 0 : first - 1, end: Math.max(last, first + 1),
      low: this.fromZero ? 0 : low - room, high: high + room };
    if (gaps.length) this.range.end = Math.max(this.range.end, gaps[gaps.length - 1].last);

    const right = width - margin.right, bottom = height - margin.bottom;
    const parts = [];
    const up = ticks(this.range.low, this.range.high, Math.max(3, this.inner.height / 30)), gap = up.length > 1 ? up[1] - up[0] : 0;
    for (const value of up) {
      const y = this.y(value).toFixed(1);
      parts.push(make("line.grid", { x1: margin.left, x2: right, y1: y, y2: y }), make("text.axis.end", { x: margin.left - 8, y, dy: "0.32em" }, this.tick(value, gap)));
    }
    const across = this.isLog ? logTicks(this.range.start, this.range.end, this.inner.width / 55) : ticks(this.range.start, this.range.end, this.inner.width / 64, 1);
    for (const step of across) {
      const x = this.x(step);
      parts.push(make("line.tick", { x1: x, x2: x, y1: bottom, y2: bottom + 4 }), make("text.axis.middle", { x: Math.min(x, right - 8), y: bottom + 17 }, whole(step)));
    }
    for (const mark of marks) {
      if (mark.step < this.range.start || mark.step > last) continue;
      const x = this.x(mark.step).toFixed(1);
      parts.push(make("line.mark", { x1: x, x2: x, y1: margin.top, y2: bottom }, make("title", {}, mark.text)));
    }
    for (const gap of gaps) {
      // Half a step on each side, and wide enough to be visible.
      const x = this.x(gap.first - 0.5), end = Math.min(right, Math.max(this.x(gap.last + 0.5), x + 3));
      parts.push(make("rect.gap", { x: x.toFixed(1), width: Math.max(0, end - x).toFixed(1), y: margin.top, height: this.inner.height }, make("title", {}, gap.text)));
    }
    parts.push(make("line.base", { x1: margin.left, x2: right, y1: bottom, y2: bottom }));
    const drawn = this.drawn = this.join(points);
    // A line is interrupted at steps that were not applied.
    const isCut = (place) => place === 0 || gaps.some((gap) => gap.first > drawn[place - 1].last && gap.last < drawn[place].first);
    const middle = (point) => this.x((point.first + point.last) / 2).toFixed(1);
    if (drawn.length > 1) {
      const top = drawn.map((point) => `${middle(point)},${this.y(point.high).toFixed(1)}`);
      const under = drawn.map((point) => `${middle(point)},${this.y(point.low).toFixed(1)}`).reverse();
      parts.push(make("path.band", { d: `M${top.join("L")}L${under.join("L")}Z` }));
      parts.push(make("path.line", { d: drawn.map((point, place) => `${isCut(place) ? "M" : "L"}${middle(point)},${this.y(point.mean).toFixed(1)}`).join("") }));
    } else {
      parts.push(make("circle.only", { cx: middle(drawn[0]), cy: this.y(drawn[0].mean), r: 3 }));
    }
    for (const dot of dots) parts.push(make("circle.dot", { cx: this.x(dot.step).toFixed(1), cy: this.y(dot.value).toFixed(1), r: 3.5 }));
    this.hair = make("g.hair", {});
    parts.push(this.hair);
    this.svg.replaceChildren(...parts);
    const newest = points[points.length - 1];
    this.svg.setAttribute("aria-label", `${this.name}: from ${this.unit(points[0].mean)} at step ${whole(first)} to ${this.unit(newest.mean)} at step ${whole(last)}`);
    this.box.setAttribute("aria-valuemin", first);
    this.box.setAttribute("aria-valuemax", last);
    this.move(this.cursor);
  }

  /** Merges neighbours that are too close. */
  join(points) {
    const joined = [];
    for (const point of points) {
      const last = joined[joined.length - 1];
      if (!last || this.x(point.last) - this.x(last.first) >= closest) {
        joined.push({ ...point });
        continue;
      }
      const before = last.last - last.first + 1, more = point.last - point.first + 1;
      Object.assign(last, { last: point.last, low: Math.min(last.low, point.low), high: Math.max(last.high, point.high),
        mean: (last.mean * before + point.mean * more) / (before + more) });
    }
    return joined;
  }

  // MARK: The cursor: a chosen step, or null for the newest

  /** The index of the cursor among the drawn points. */
  get place() {
    const place = this.cursor === null ? -1 : this.drawn.findIndex((point) => point.last >= this.cursor);
    return place < 0 ? this.drawn.length - 1 : place;
  }

  key(event) {
    if (!this.drawn?.length) return;
    const end = this.drawn.length - 1, at = this.place, stride = event.shiftKey ? 10 : 1;
    const next = { ArrowLeft: at - stride, ArrowDown: at - stride, ArrowRight: at + stride, ArrowUp: at + stride, PageDown: at - 50, PageUp: at + 50, Home: 0, End: end }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.move(this.drawn[Math.max(0, Math.min(end, next))].last);
  }

  point(event) {
    if (!this.drawn?.length) return;
    const x = event.clientX - this.box.getBoundingClientRect().left;
    const across = (point) => Math.abs(this.x((point.first + point.last) / 2) - x);
    this.move(this.drawn.reduce((best, point) => (across(point) < across(best) ? point : best)).last);
  }

  move(step) {
    const { dots } = this.data;
    this.cursor = step;
    const point = this.drawn?.[this.place];
    if (!point) return;
    const steps = point.first === point.last ? `step ${whole(point.first)}` : `steps ${whole(point.first)}–${whole(point.last)}`;
    const spread = point.low === point.high ? "" : ` (${this.tick(point.low)}–${this.tick(point.high)})`;
    const dot = dots.filter((dot) => dot.step <= point.last).pop();
    const text = `${steps}: ${this.unit(point.mean)}${spread}${dot ? ` · ${dot.text}` : ""}`;
    say(this.readout, text);
    this.box.setAttribute("aria-valuenow", point.last);
    this.box.setAttribute("aria-valuetext", text);
    if (!this.hair) return;
    if (this.cursor === null) return this.hair.replaceChildren();
    const x = this.x((point.first + point.last) / 2).toFixed(1);
    this.hair.replaceChildren(make("line", { x1: x, x2: x, y1: margin.top, y2: margin.top + this.inner.height }),
      make("circle", { cx: x, cy: this.y(point.mean).toFixed(1), r: 4 }));
  }
}
