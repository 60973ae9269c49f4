// The distribution of tokens over the experts, by step of recurrence: a table with coloured cells, which can also be read without colours.

import { fill, fixed, make, percent, plural, say, shade, table, whole } from "./page.js";

/** The number of equally loaded experts with the same entropy of the shares: e to that entropy. */
function effective(loads) {
  const total = loads.reduce((sum, load) => sum + load, 0);
  if (!total) return null;
  return Math.exp(loads.reduce((sum, load) => (load > 0 ? sum - (load / total) * Math.log(load / total) : sum), 0));
}

export class ExpertPanel {
  constructor() {
    this.note = make("p.note");
    this.readout = make("output.readout", { "aria-live": "polite" });
    this.grid = make("div.scroll", { role: "region", "aria-label": "Load of the experts", tabindex: "0" });
    this.figures = make("div");
    this.element = make("div", {}, this.note, this.readout, this.grid, this.figures);
    this.shape = "";
    this.at = [0, 0];
  }

  show(router, newest, roster) {
    const rows = router?.loads?.length ? router.loads : newest?.loads?.length ? [newest.loads] : [];
    this.places = new Map((roster ?? []).flatMap((worker) => worker.experts.map((expert) => [expert, worker.name])));
    if (!rows.length || !rows[0].length) {
      this.shape = "";
      this.grid.replaceChildren();
      say(this.readout, "");
      fill(this.figures);
      return say(this.note, newest ? "This model has no routed experts." : "Loads are shown from the first step on.");
    }
    this.isByStep = rows === router?.loads;
    this.rows = rows;
    // Blocks with experts of their own have them numbered consecutively; blocks with one pool have the same experts.
    this.hasPools = this.isByStep && this.places.size > rows[0].length;
    say(this.note, this.isByStep
      ? `Tokens at step ${whole(router.step)}, relative to an even share (1.0). Select a cell with the arrow keys.`
      : `Tokens at step ${whole(newest.step)} over all steps of recurrence, relative to an even share (1.0). With training.clinic_every each step is shown.`);
    this.draw();
    this.explain(router);
  }

  draw() {
    const shape = `${this.rows.length}x${this.rows[0].length}`;
    if (shape !== this.shape) this.build(shape);
    this.rows.forEach((loads, t) => {
      const fair = loads.reduce((sum, load) => sum + load, 0) / loads.length;
      loads.forEach((load, expert) => {
        const cell = this.cells[t][expert], ratio = fair > 0 ? load / fair : 0;
        say(cell, ratio.toFixed(1));
        // The deepest colour is for twice an even share and more.
        cell.style.setProperty("--load", Math.min(1, ratio / 2).toFixed(3));
        shade(cell, ratio / 2);
        cell.setAttribute("aria-label", this.words(t, expert, load, ratio));
      });
    });
    this.read();
  }

  words(t, expert, load, ratio) {
    const place = this.places.get(this.hasPools ? t * this.rows[0].length + expert : expert);
    return `${this.isByStep ? `recurrence ${t + 1}, ` : ""}expert ${expert}${place ? ` on ${place}` : ""}: ${plural(load, "token")}, ${ratio.toFixed(2)} × an even share`;
  }

  build(shape) {
    this.shape = shape;
    this.at = [0, 0];
    const count = this.rows[0].length;
    this.cells = this.rows.map((loads, t) => loads.map((_, expert) => make("td", {
      tabindex: t === 0 && expert === 0 ? "0" : "-1",
      onfocus: () => this.go(t, expert, false), onpointerenter: () => this.go(t, expert, false) })));
    this.grid.replaceChildren(make("table.heat", { onkeydown: (event) => this.key(event), class: count > 24 ? "heat many" : "heat" },
      make("caption.hidden", {}, "Load of each expert, by step of recurrence, relative to an even share"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, this.isByStep ? "t" : ""),
        this.rows[0].map((_, expert) => make("th", { scope: "col" }, count > 24 && expert % 8 ? "" : `${expert}`)))),
      make("tbody", {}, this.cells.map((row, t) => make("tr", {}, make("th", { scope: "row" }, this.isByStep ? `${t + 1}` : "all"), row)))));
  }

  key(event) {
    const [t, expert] = this.at;
    const next = { ArrowLeft: [t, expert - 1], ArrowRight: [t, expert + 1], ArrowUp: [t - 1, expert], ArrowDown: [t + 1, expert], Home: [t, 0], End: [t, this.rows[0].length - 1] }[event.key];
    if (!next || !this.cells[next[0]]?.[next[1]]) return;
    event.preventDefault();
    this.go(next[0], next[1], true);
  }

  go(t, expert, focuses) {
    this.cells[this.at[0]][this.at[1]].tabIndex = -1;
    this.at = [t, expert];
    this.cells[t][expert].tabIndex = 0;
    if (focuses) this.cells[t][expert].focus();
    this.read();
  }

  read() {
    say(this.readout, this.cells[this.at[0]][this.at[1]].getAttribute("aria-label"));
  }

  /** The measurements of the router. */
  explain(router) {
    if (!this.isByStep) return fill(this.figures);
    const most = Math.log(router.loads[0].length);
    const bias = (t) => router.bias[router.bias.length > 1 ? t : 0] ?? [];
    const hasCut = router.truncation.length > 0;
    fill(this.figures, table("The router by step of recurrence",
      ["t", "Entropy", "Experts in effect", ...(hasCut ? ["Attention cut"] : []), "Bias"],
      router.loads.map((loads, t) => [`${t + 1}`, `${fixed(router.entropy[t], 2)} of ${fixed(most, 2)}`, `${fixed(effective(loads), 1)} of ${loads.length}`,
        ...(hasCut ? [percent(router.truncation[t], 1)] : []),
        bias(t).length ? `${fixed(Math.min(...bias(t)), 3)} … ${fixed(Math.max(...bias(t)), 3)}` : "–"]), { numeric: [1, 2, 3, 4] }),
      make("details", {}, make("summary", {}, "Meaning of the columns"),
        make("p.note", {}, "Entropy: the uncertainty of the router, in nats; at 0 it is certain. Experts in effect: the number of equally loaded experts with the same entropy of loads; 1 is a collapse."
          + (hasCut ? " Attention cut: of all queries and heads, the share whose sparsemax would keep more tokens than model.keys allows." : "")
          + " Bias: the balancer's addition to the score of an expert.")));
  }
}
