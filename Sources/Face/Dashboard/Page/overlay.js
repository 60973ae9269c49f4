// Curves of several runs in one picture, with a cursor that shows all their values and with a part that can be enlarged: by dragging over it,
// by the buttons, or with the keys + − 0.

import { logTicks, ticks } from "./chart.js";
import { make, say } from "./page.js";

const margin = { left: 58, right: 16, top: 12, bottom: 44 };
const shapes = 5;

/** An exponential moving average without bias at its start: a value's weight is `keep` times that of the next one, for each step between them. */
export function smoothed(points, keep) {
  if (!keep) return points.map((point) => point.y);
  let sum = 0, weight = 0;
  return points.map((point) => {
    const share = keep ** (point.count ?? 1);
    sum = share * sum + (1 - share) * point.y;
    weight = share * weight + (1 - share);
    return sum / weight;
  });
}

/** The marker of a run's evaluations; shapes differ, so that they can be told apart without colours. */
export function marker(place, x, y, size = 4) {
  const at = (dx, dy) => `${(x + dx * size).toFixed(1)},${(y + dy * size).toFixed(1)}`;
  switch (place % shapes) {
    case 0: return make("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: size });
    case 1: return make("rect", { x: (x - 0.9 * size).toFixed(1), y: (y - 0.9 * size).toFixed(1), width: 1.8 * size, height: 1.8 * size });
    case 2: return make("path", { d: `M${at(0, -1.2)}L${at(1.1, 0.9)}L${at(-1.1, 0.9)}Z` });
    case 3: return make("path", { d: `M${at(0, -1.3)}L${at(1.3, 0)}L${at(0, 1.3)}L${at(-1.3, 0)}Z` });
    default: return make("path.cross", { d: `M${at(-0.9, -0.9)}L${at(0.9, 0.9)}M${at(-0.9, 0.9)}L${at(0.9, -0.9)}` });
  }
}

export class Overlay {
  /** zoomed(window): called when the user chose a part, [from, to], or everything, null. */
  constructor(zoomed) {
    this.zoomed = zoomed;
    this.cursor = null;
    this.drag = null;
    this.data = { runs: [], window: null };
    this.svg = make("svg.plot.overlay", { role: "img", "aria-label": "Curves" });
    this.readout = make("div.values", { role: "status", "aria-live": "off" });
    this.box = make("div.chart.tall", {
      tabindex: "0", role: "slider", "aria-label": "Place of the cursor", "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0",
      onkeydown: (event) => this.key(event), onpointerdown: (event) => this.press(event), onpointermove: (event) => this.point(event),
      onpointerup: (event) => this.release(event), onpointercancel: () => { this.drag = null; this.draw(); },
      onpointerleave: () => { if (!this.drag) this.move(null); }, onblur: () => this.move(null), ondblclick: () => this.zoom(null),
    }, this.svg);
    this.element = make("div.figure", {}, this.box, this.readout);
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.box);
  }

  close() { this.observer.disconnect(); }

  /** runs: {name, colour, place, points: [{x, y, count}], dots: [{x, y}], isHidden}, in the order of the legend; window: [from, to] or null;
   * xTick(value, gap), yTick(value, gap), xText(value), yText(value); xTitle, yTitle; keep: of `smoothed`. */
  set(data) {
    this.data = data;
    this.draw();
  }

  x(value) {
    const { from, to } = this.range, { isLogX } = this.data;
    const share = isLogX ? Math.log(Math.max(value, from) / from) / Math.log(to / from) : (value - from) / (to - from);
    return margin.left + share * this.inner.width;
  }

  /** The value at a place on the axis. */
  at(x) {
    const { from, to } = this.range, share = Math.max(0, Math.min(1, (x - margin.left) / this.inner.width));
    return this.data.isLogX ? from * (to / from) ** share : from + share * (to - from);
  }

  y(value) {
    const { low, high } = this.range, { isLogY } = this.data;
    const share = isLogY ? Math.log(Math.max(value, low / 10) / low) / Math.log(high / low) : (value - low) / (high - low);
    return margin.top + (1 - share) * this.inner.height;
  }

  draw() {
    const width = this.box.clientWidth, height = this.box.clientHeight, { data } = this;
    if (!width || !height) return;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
    const shown = this.shown = data.runs.filter((run) => !run.isHidden && (run.points.length || run.dots.length))
      .map((run) => ({ ...run, values: smoothed(run.points, data.keep) }));
    const ends = shown.flatMap((run) => [...run.points, ...run.dots].map((point) => point.x)).filter((x) => !data.isLogX || x > 0);
    if (!ends.length) {
      this.range = null;
      this.svg.replaceChildren(make("text.axis.middle", { x: width / 2, y: height / 2 }, data.runs.length ? "no step yet, or all runs are hidden" : "no run"));
      return this.readout.replaceChildren();
    }
    this.all = [data.isLogX ? ends.reduce((a, b) => Math.min(a, b)) : 0, ends.reduce((a, b) => Math.max(a, b))];
    // Room for the last marker.
    if (!data.isLogX) this.all[1] *= 1.01;
    if (!(this.all[1] > this.all[0])) this.all = [this.all[0] * 0.9, this.all[0] * 1.1 + 1e-9];
    const [from, to] = data.window ?? this.all;
    this.range = { from, to, ...this.heights(shown, from, to) };

    const right = width - margin.right, bottom = height - margin.bottom, parts = [];
    const clip = "overlay-clip";
    parts.push(make("clipPath", { id: clip }, make("rect", { x: margin.left, y: margin.top, width: this.inner.width, height: this.inner.height })));
    const { low, high } = this.range;
    // Over less than two decades powers of ten alone would be too few.
    const up = data.isLogY && high / low > 100 ? logTicks(low, high, this.inner.height / 30) : ticks(low, high, Math.max(3, this.inner.height / 42));
    const gapY = up.length > 1 ? Math.abs(up[1] - up[0]) : 0;
    for (const value of up) {
      const y = this.y(value).toFixed(1);
      parts.push(make("line.grid", { x1: margin.left, x2: right, y1: y, y2: y }), make("text.axis.end", { x: margin.left - 8, y, dy: "0.32em" }, data.yTick(value, gapY)));
    }
    const across = data.isLogX && to / from > 20 ? logTicks(from, to, this.inner.width / 55) : ticks(from, to, this.inner.width / 90);
    const gapX = data.isLogX ? 0 : across.length > 1 ? across[1] - across[0] : 0;
    for (const value of across) {
      const x = this.x(value);
      if (x < margin.left - 1 || x > right + 1) continue;
      parts.push(make("line.tick", { x1: x, x2: x, y1: bottom, y2: bottom + 4 }), make("text.axis.middle", { x: Math.min(x, right - 8), y: bottom + 18 }, data.xTick(value, gapX)));
    }
    parts.push(make("line.base", { x1: margin.left, x2: right, y1: bottom, y2: bottom }),
      make("text.axis.middle.title", { x: margin.left + this.inner.width / 2, y: height - 6 }, data.xTitle),
      make("text.axis.middle.title", { transform: `translate(14 ${margin.top + this.inner.height / 2}) rotate(-90)` }, data.yTitle));
    const curves = make("g", { "clip-path": `url(#${clip})` });
    for (const run of shown) curves.append(...this.curve(run, data.keep));
    this.hair = make("g.hair", {});
    this.veil = make("g", {});
    parts.push(curves, this.veil, this.hair);
    this.svg.replaceChildren(...parts);
    this.svg.setAttribute("aria-label", `${data.yTitle} by ${data.xTitle} of ${shown.map((run) => run.name).join(", ")}`);
    this.box.setAttribute("aria-valuemin", from);
    this.box.setAttribute("aria-valuemax", to);
    this.move(this.cursor);
  }

  /** The range of losses in a part. The first twentieth, in which the loss falls from a height, would leave no room for the rest. */
  heights(shown, from, to) {
    const { isLogY, window, fromZero } = this.data, start = window || isLogY ? from : from + (to - from) / 20;
    const values = (start) => shown.flatMap((run) => [
      ...run.values.filter((_, n) => run.points[n].x >= start && run.points[n].x <= to),
      ...run.dots.filter((dot) => dot.x >= start && dot.x <= to).map((dot) => dot.y)]).filter((value) => !isLogY || value > 0);
    let found = values(start);
    if (!found.length) found = values(-Infinity);
    if (!found.length) return { low: isLogY ? 0.1 : 0, high: 1 };
    let low = found.reduce((a, b) => Math.min(a, b)), high = found.reduce((a, b) => Math.max(a, b));
    if (fromZero && !isLogY) low = 0;
    const room = isLogY ? Math.max((high / low) ** 0.05, 1.001) : Math.max((high - low) * 0.06, Math.abs(high) * 1e-3, 1e-9);
    return isLogY ? { low: low / room, high: high * room } : { low: fromZero ? 0 : low - room, high: high + room };
  }

  curve(run, keep) {
    const parts = [], path = (values) => {
      let text = "";
      run.points.forEach((point, n) => {
        if (this.data.isLogX && point.x <= 0 || this.data.isLogY && values[n] <= 0) return;
        text += `${text ? "L" : "M"}${this.x(point.x).toFixed(1)},${this.y(values[n]).toFixed(1)}`;
      });
      return text;
    };
    if (keep && run.points.length > 1) parts.push(make("path.faint", { d: path(run.points.map((point) => point.y)), stroke: run.colour }));
    if (run.points.length > 1) parts.push(make("path.curve", { d: path(run.values), stroke: run.colour, "stroke-dasharray": run.dash }));
    for (const dot of run.dots) {
      const shape = marker(run.place, this.x(dot.x), this.y(dot.y));
      shape.classList.add("mark-dot");
      shape.setAttribute(run.place % shapes === 4 ? "stroke" : "fill", run.colour);
      parts.push(shape);
    }
    return parts;
  }

  // MARK: The cursor

  /** Shows the values of all runs at a place, or removes the cursor. */
  move(value) {
    this.cursor = value;
    if (!this.range || !this.hair) return;
    if (value === null) {
      this.hair.replaceChildren();
      return this.tell(null);
    }
    const at = Math.max(this.range.from, Math.min(this.range.to, value)), x = this.x(at).toFixed(1);
    this.hair.replaceChildren(make("line", { x1: x, x2: x, y1: margin.top, y2: margin.top + this.inner.height }));
    this.box.setAttribute("aria-valuenow", at);
    this.tell(at);
  }

  tell(at) {
    const { data } = this;
    const found = this.shown.map((run) => {
      if (!run.points.length) return { run };
      // The newest point up to the cursor; without a cursor the newest of all.
      let n = run.points.length - 1;
      if (at !== null) while (n > 0 && run.points[n].x > at) n -= 1;
      return { run, point: run.points[n], value: run.values[n], isPast: at !== null && run.points[run.points.length - 1].x < at };
    });
    const text = found.map(({ run, value }) => `${run.name} ${value === undefined ? "–" : data.yText(value)}`).join(", ");
    this.box.setAttribute("aria-valuetext", `${at === null ? "the end" : data.xText(at)}: ${text}`);
    this.readout.replaceChildren(make("span.value", {}, make("strong", {}, at === null ? "end" : data.xText(at))), ...found.map(({ run, value, isPast }) =>
      make("span.value", {}, swatch(run), `${run.name} `, make("strong", {}, value === undefined ? "–" : data.yText(value)), isPast && " (ended)")));
  }

  key(event) {
    if (!this.range) return;
    const { from, to } = this.range, stride = (to - from) / (event.shiftKey ? 10 : 100), at = this.cursor ?? to;
    const next = { ArrowLeft: at - stride, ArrowRight: at + stride, ArrowDown: at - stride, ArrowUp: at + stride, Home: from, End: to }[event.key];
    if (next !== undefined) this.move(Math.max(from, Math.min(to, next)));
    else if (event.key === "+" || event.key === "=") this.closer(0.5);
    else if (event.key === "-") this.closer(2);
    else if (event.key === "0") this.zoom(null);
    else return;
    event.preventDefault();
  }

  // MARK: Parts

  /** Shows a part of `factor` times the width, around the cursor. */
  closer(factor) {
    if (!this.range) return;
    const { from, to } = this.range, middle = this.cursor ?? (from + to) / 2;
    const share = (middle - from) / (to - from), width = (to - from) * factor;
    if (width >= this.all[1] - this.all[0]) return this.zoom(null);
    const begin = Math.max(this.all[0], Math.min(this.all[1] - width, middle - share * width));
    this.zoom([begin, begin + width]);
  }

  zoom(window) { this.zoomed(window); }

  place(event) { return event.clientX - this.box.getBoundingClientRect().left; }

  press(event) {
    if (!this.range || event.button !== 0) return;
    this.drag = { from: this.place(event), to: this.place(event) };
    // A finger scrolls the page up and down; across it chooses a part.
    this.box.setPointerCapture(event.pointerId);
    this.move(this.at(this.place(event)));
  }

  point(event) {
    if (!this.range) return;
    this.move(this.at(this.place(event)));
    if (!this.drag) return;
    this.drag.to = this.place(event);
    const [a, b] = [this.drag.from, this.drag.to].sort((x, y) => x - y);
    this.veil.replaceChildren(make("rect.chosen-part", { x: a.toFixed(1), y: margin.top, width: (b - a).toFixed(1), height: this.inner.height }));
  }

  release() {
    const { drag } = this;
    this.drag = null;
    this.veil?.replaceChildren();
    if (!drag || Math.abs(drag.to - drag.from) < 8) return;
    this.zoom([this.at(Math.min(drag.from, drag.to)), this.at(Math.max(drag.from, drag.to))]);
  }
}

/** A short line in a run's colour with its marker, for legends. */
export function swatch(run) {
  const shape = marker(run.place, 13, 6, 3.6);
  shape.classList.add("mark-dot");
  shape.setAttribute(run.place % shapes === 4 ? "stroke" : "fill", run.colour);
  return make("svg.line-swatch", { viewBox: "0 0 26 12", "aria-hidden": "true" },
    make("line", { x1: 1, x2: 25, y1: 6, y2: 6, stroke: run.colour, "stroke-dasharray": run.dash }), shape);
}
