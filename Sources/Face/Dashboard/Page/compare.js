// Several runs: their curves in one picture, what each has reached, and how their configurations differ. All choices are in the address.

import { badge } from "./cluster.js";
import { Overlay, swatch } from "./overlay.js";
import { axis, compact, duration, fill, fixed, keepInAddress, make, number, plural, queryOf, say, section, table, whole } from "./page.js";
import { Picture } from "./run.js";

const colours = 8;
const standardSmoothing = 0.8;

const measures = {
  loss: { title: "loss, nats a target", word: "Loss", part: "loss", text: (value) => fixed(value, 4), tick: axis },
  norm: { title: "gradient norm", word: "Gradient norm", part: "norm", text: (value) => fixed(value, 3), tick: (value) => compact(value, true) },
  speed: { title: "tokens a second", word: "Tokens/s", part: "throughput", text: (value) => compact(value), tick: (value) => compact(value, true), fromZero: true },
  rate: { title: "learning rate", word: "Learning rate", part: "rate", text: (value) => value.toPrecision(3), tick: (value) => String(Number(value.toPrecision(3))), fromZero: true },
};
const axes = {
  step: { title: "step", word: "Steps", text: (value) => `step ${whole(value)}`, tick: (value, gap) => (gap >= 1 || !gap ? whole(value) : axis(value, gap)) },
  tokens: { title: "tokens", word: "Tokens", text: (value) => `${compact(value)} tokens`, tick: (value) => compact(value, true) },
  hours: { title: "hours of training", word: "Hours", text: (value) => duration(3600 * value), tick: axis },
};

/** A run of the comparison: its name or identifier in the address, and what is known of it. */
class Member {
  constructor(word, place) {
    this.word = word;
    this.place = place;
    this.name = word;
    this.picture = new Picture();
    this.tag = null;
    this.isHidden = false;
  }

  get colour() { return `var(--run-${this.place % colours})`; }
  get dash() { return [undefined, "7 3", "2 3", "9 3 2 3"][Math.floor(this.place / colours) % 4]; }

  async look(ask, runs) {
    const run = runs.find((run) => run.id === this.word) ?? runs.filter((run) => run.name === this.word).pop();
    this.run = run;
    if (!run) return;
    this.name = run.name;
    if (!this.details || this.detailsOf !== run.state) {
      const { status, value } = await ask(`/api/runs/${run.id}/details`);
      if (status === 200) [this.details, this.detailsOf] = [value, run.state];
    }
    // A run that is at rest and was read needs no further look.
    if (this.isRead && this.readIn === run.state && !["running", "placing", "queued"].includes(run.state)) return;
    const { status, tag, value } = await ask(`/api/runs/${run.id}?since=${this.picture.event}&shape=${this.picture.shape}`, this.tag);
    if (status === 200) {
      this.tag = tag;
      this.picture.take(value);
      this.isRead = !value.isReading;
      this.readIn = run.state;
      this.isChanged = true;
    }
  }

  /** Points with their places on all axes: the tokens and hours of all steps up to the middle of each point. */
  get places() {
    let tokens = 0, seconds = 0;
    return this.picture.points.map((point) => {
      const place = { step: (point.first + point.last) / 2, tokens: tokens + point.tokens / 2, hours: (seconds + point.seconds / 2) / 3600 };
      tokens += point.tokens;
      seconds += point.seconds;
      return { point, place, end: { step: point.last, tokens, hours: seconds / 3600 } };
    });
  }

  /** Evaluations with their places on all axes. */
  get evaluations() {
    const places = this.places;
    return this.picture.evaluations.filter((line) => number(line.loss) !== null).map((line) => {
      const found = places.find(({ point }) => point.last >= line.step) ?? places[places.length - 1];
      return { step: line.step, loss: line.loss, place: { step: line.step, tokens: found?.end.tokens ?? 0, hours: found?.end.hours ?? 0 } };
    });
  }
}

export class CompareView {
  constructor(words, hash) {
    this.members = [...new Set(words)].map((word, place) => new Member(word, place));
    const query = queryOf(hash), within = (value, least, most, standard) => (value >= least && value <= most ? value : standard);
    this.choice = {
      y: measures[query.y] ? query.y : "loss", x: axes[query.x] ? query.x : "step",
      smooth: within(Number(query.smooth ?? standardSmoothing), 0, 0.99, standardSmoothing), logx: query.logx === "1", logy: query.logy === "1",
      window: query.from !== undefined && Number(query.to) > Number(query.from) ? [Number(query.from), Number(query.to)] : null,
      target: query.target ?? "",
    };
    const hidden = new Set((query.hide ?? "").split(",").filter((word) => word));
    for (const member of this.members) member.isHidden = hidden.has(member.word);
    this.build();
  }

  close() { this.overlay.close(); }

  build() {
    const { choice } = this;
    const options = (name, all, chosen) => make("select", { id: `compare-${name}`, onchange: (event) => this.change({ [name]: event.target.value, ...(name === "x" ? { window: null } : {}) }) },
      Object.entries(all).map(([key, { word }]) => make("option", { value: key, selected: key === chosen }, word)));
    const box = (name, word) => make("label.check", {}, make("input", { type: "checkbox", checked: choice[name], onchange: (event) => this.change({ [name]: event.target.checked }) }), word);
    this.smoothName = make("span.number");
    this.smooth = make("input", { id: "compare-smooth", type: "range", min: "0", max: "0.99", step: "0.01", value: String(choice.smooth), oninput: (event) => this.change({ smooth: Number(event.target.value) }) });
    this.overlay = new Overlay((window) => this.change({ window }));
    const button = (word, title, act) => make("button.small", { type: "button", title, "aria-label": title, onclick: act }, word);
    this.whole = button("All", "Show everything (key 0)", () => this.change({ window: null }));
    this.legend = make("ul.legend");
    this.added = make("select", { id: "compare-add", onchange: (event) => event.target.value && this.add(event.target.value) });
    this.note = make("p.note", { role: "status" });
    this.results = make("div");
    this.differences = make("div");
    this.target = make("input", { id: "compare-target", type: "number", step: "any", min: "0", value: choice.target, placeholder: "auto", oninput: (event) => this.change({ target: event.target.value }) });
    this.element = make("div.view", {}, make("div.title", {}, make("h1", {}, "Comparison"), make("span.note", {}, plural(this.members.length, "run"))),
      section("Curves",
        make("div.row.tools", {},
          make("label", { for: "compare-y" }, "Shown", options("y", measures, choice.y)), make("label", { for: "compare-x" }, "Axis", options("x", axes, choice.x)),
          make("label", { for: "compare-smooth" }, make("span", {}, "Smoothing ", this.smoothName), this.smooth), box("logx", "log axis"), box("logy", "log values"),
          make("span.group", { role: "group", "aria-label": "Part that is shown" }, button("+", "Enlarge (key +)", () => this.overlay.closer(0.5)), button("−", "Reduce (key −)", () => this.overlay.closer(2)), this.whole),
          make("label", { for: "compare-add" }, "Add a run", this.added)),
        this.legend, this.overlay.element,
        make("p.note", {}, "Lines are training, markers are evaluations. Drag over a part to enlarge it; arrow keys move the cursor."), this.note),
      section("Results", make("div.row.tools", {}, make("label", { for: "compare-target" }, "Loss to reach", this.target)), this.results),
      section("Configuration that differs", this.differences));
    this.title = "comparison";
  }

  async look(ask) {
    const { value } = await ask("/api/cluster");
    this.program = value.program;
    for (const member of this.members) await member.look(ask, value.runs);
    const missing = this.members.filter((member) => !member.run).map((member) => member.word);
    const reading = this.members.filter((member) => member.run && !member.isRead).map((member) => member.name);
    say(this.note, (missing.length ? `This coordinator has no run called ${missing.join(", ")}. ` : "") + (reading.length ? `Still being read: ${reading.join(", ")}.` : ""));
    const others = value.runs.filter((run) => !this.members.some((member) => member.run?.id === run.id)).reverse();
    fill(this.added, make("option", { value: "" }, others.length ? "choose" : "no other run"), others.map((run) => make("option", { value: run.id }, run.name)));
    this.draw();
  }

  change(change) {
    Object.assign(this.choice, change);
    this.keep();
    this.draw();
  }

  /** The choices as a part of the address; standard values are left out. */
  keep() {
    const { choice } = this, [from, to] = choice.window ?? [];
    const short = (value) => (value === undefined ? "" : String(Number(value.toPrecision(6))));
    keepInAddress("#/compare/" + this.members.map((member) => encodeURIComponent(member.word)).join("/"), {
      y: choice.y === "loss" ? "" : choice.y, x: choice.x === "step" ? "" : choice.x, smooth: choice.smooth === standardSmoothing ? "" : choice.smooth,
      logx: choice.logx ? 1 : "", logy: choice.logy ? 1 : "", from: short(from), to: short(to), target: choice.target,
      hide: this.members.filter((member) => member.isHidden).map((member) => member.word).join(",") });
  }

  add(word) {
    this.members.push(new Member(word, this.members.length));
    this.keep();
    // The address has changed without an event; the view is built again, with the new run.
    dispatchEvent(new HashChangeEvent("hashchange"));
  }

  draw() {
    const { choice } = this, measure = measures[choice.y], across = axes[choice.x];
    say(this.smoothName, choice.smooth ? choice.smooth.toFixed(2) : "off");
    this.whole.disabled = !choice.window;
    this.overlay.set({
      window: choice.window, keep: choice.smooth, isLogX: choice.logx, isLogY: choice.logy, fromZero: measure.fromZero,
      xTitle: across.title, yTitle: measure.title, xTick: across.tick, yTick: measure.tick, xText: across.text, yText: measure.text,
      runs: this.members.filter((member) => member.run).map((member) => ({
        name: member.name, colour: member.colour, dash: member.dash, place: member.place, isHidden: member.isHidden,
        points: member.places.map(({ point, place }) => ({ x: place[choice.x], y: measure.part === "rate" ? point.rate : point[measure.part][1], count: point.last - point.first + 1 }))
          .filter((point) => number(point.y) !== null),
        dots: choice.y === "loss" ? member.evaluations.map((line) => ({ x: line.place[choice.x], y: line.loss })) : [] })) });
    this.drawLegend();
    this.drawResults();
    this.drawDifferences();
  }

  drawLegend() {
    // Built once for each member, so that a box keeps the focus.
    if (this.legend.children.length !== this.members.length) {
      this.legend.replaceChildren(...this.members.map((member) => {
        const box = make("input", { type: "checkbox", checked: !member.isHidden, onchange: () => { member.isHidden = !box.checked; this.change({}); } });
        member.link = make("a", { href: `#/run/${encodeURIComponent(member.word)}` }, member.name);
        member.badge = make("span");
        return make("li", {}, make("label.check", {}, box, swatch(member), make("span.hidden", {}, member.name)), member.link, " ", member.badge);
      }));
    }
    for (const member of this.members) {
      say(member.link, member.name);
      fill(member.badge, member.run ? badge(member.run.state) : make("span.bad", {}, "not found"));
    }
  }

  drawResults() {
    const members = this.members.filter((member) => member.run);
    const best = (lines) => lines.reduce((best, line) => (!best || line.loss < best.loss ? line : best), null);
    const rows = members.map((member) => {
      const lines = member.evaluations, places = member.places;
      return { member, lines, best: best(lines), last: lines[lines.length - 1], end: places[places.length - 1]?.end };
    });
    const typed = Number(this.choice.target), worst = rows.map((row) => row.best?.loss).filter((loss) => loss !== undefined);
    const target = this.choice.target !== "" && Number.isFinite(typed) ? typed : worst.length ? Math.max(...worst) : null;
    this.target.placeholder = worst.length ? fixed(Math.max(...worst), 4) : "auto";
    const to = target === null ? "" : ` to ${fixed(target, 4)}`;
    fill(this.results, table("Results", ["Run", "Steps", "Loss", "Validation", "Best", "At step", "Tokens", "Time", `Tokens${to}`, `Time${to}`],
      rows.map(({ member, lines, best, last, end }) => {
        const reached = target === null ? null : lines.find((line) => line.loss <= target);
        return [make("a", { href: `#/run/${member.run.id}` }, member.name), whole(end?.step), fixed(member.run.loss, 4), fixed(last?.loss, 4), fixed(best?.loss, 4), whole(best?.step),
          compact(end?.tokens), end ? duration(3600 * end.hours) : "–", reached ? compact(reached.place.tokens) : "–", reached ? duration(3600 * reached.place.hours) : "–"];
      }), { numeric: [1, 2, 3, 4, 5, 6, 7, 8, 9] }),
      make("p.note", {}, "Time is the time of training, without waiting, loading and evaluations. The loss to reach is the best validation loss of the run that did worst, unless another is given."));
  }

  drawDifferences() {
    const members = this.members.filter((member) => member.details);
    if (members.length < 2) return fill(this.differences, make("p.empty", {}, "Two runs are needed for a comparison."));
    const values = members.map((member) => new Map(member.details.configuration.map((line) => [line.key, line])));
    const keys = [...values[0].keys()].filter((key) => key !== "run" && new Set(values.map((all) => all.get(key)?.value)).size > 1);
    if (!keys.length) return fill(this.differences, make("p.empty", {}, "The runs have the same configuration."));
    const name = (key) => make("span", { title: values[0].get(key).meaning }, make("code", {}, key));
    const value = (n, key) => make("code", {}, values[n].get(key)?.value ?? "–");
    // Keys or runs become the rows, whichever are more.
    fill(this.differences, members.length <= keys.length
      ? table("Configuration that differs", ["Key", ...members.map((member) => member.name)], keys.map((key) => [name(key), ...members.map((_, n) => value(n, key))]))
      : table("Configuration that differs", ["Run", ...keys.map(name)], members.map((member, n) => [member.name, ...keys.map((key) => value(n, key))])));
  }
}
