// The table of all runs: sorted by any column, filtered by words and by state, with a choice of runs to compare. Rows belong to runs, not to
// places, so that a new order keeps what was chosen. Filter and order are part of the page's address.

import { compact, duration, fixed, make, moment, number, percent, plural, say, whole } from "./page.js";

const time = (run) => (number(run.began) !== null && number(run.lastRecord) !== null ? run.lastRecord - run.began : null);
const file = (path) => (path ?? "").split("/").pop();

/** key: its name in the address; value(run): what is sorted by, null last; text(run): what is shown. `isDown`: the largest come first. */
const columns = [
  { key: "name", title: "Run", value: (run) => run.name },
  { key: "state", title: "State", value: (run) => run.state },
  { key: "step", title: "Step", isNumber: true, isDown: true, value: (run) => run.step, text: (run) => `${whole(run.step)} / ${whole(run.steps)}` },
  { key: "loss", title: "Loss", hint: "Of the newest step, nats a target", isNumber: true, value: (run) => number(run.loss), text: (run) => (run.skipped ? "skipped" : fixed(run.loss, 4)) },
  { key: "validation", title: "Validation", hint: "Loss of the newest evaluation, nats a target", isNumber: true, value: (run) => number(run.validation), text: (run) => fixed(run.validation, 4) },
  { key: "speed", title: "Tokens/s", isNumber: true, isDown: true, value: (run) => number(run.tokensPerSecond), text: (run) => compact(run.tokensPerSecond) },
  { key: "goodput", title: "Goodput", hint: "Share of the workers' time that went into steps that count", isNumber: true, isDown: true, value: (run) => number(run.goodput), text: (run) => percent(run.goodput) },
  { key: "began", title: "Started", isDown: true, value: (run) => number(run.began), text: (run) => moment(run.began) },
  { key: "time", title: "Duration", hint: "From the first step to the newest record", isNumber: true, isDown: true, value: time, text: (run) => duration(time(run)) },
  { key: "owner", title: "Owner", value: (run) => run.owner ?? null, text: (run) => run.owner ?? "–" },
  { key: "data", title: "Dataset", value: (run) => file(run.dataset) || null, text: (run) => file(run.dataset) || "–" },
];
const states = ["", "running", "queued", "placing", "paused", "finished", "failed", "cancelled"];

export class RunTable {
  /** keep(query): called with the filter and order after each change. */
  constructor(query, keep) {
    this.keep = keep;
    this.rows = new Map();
    this.runs = [];
    this.chosen = new Set();
    const [, minus, key] = (query.sort ?? "").match(/^(-?)([a-z]+)$/) ?? [];
    this.order = columns.some((column) => column.key === key) ? { key, isDown: minus === "-" } : null;
    this.words = make("input", { id: "run-words", type: "search", value: query.q ?? "", placeholder: "name, dataset, owner", autocomplete: "off", oninput: () => this.change() });
    this.state = make("select", { id: "run-state", onchange: () => this.change() }, states.map((state) => make("option", { value: state, selected: state === query.state }, state || "all")));
    this.count = make("span.note", { role: "status" });
    this.compare = make("a.button", { href: "#/" }, "Compare");
    this.headings = columns.map((column) => make(column.isNumber ? "th.number" : "th", { scope: "col", title: column.hint, "data-key": column.key },
      make("button.sort", { type: "button", onclick: () => this.sort(column) }, column.title)));
    this.body = make("tbody");
    this.scroll = make("div.scroll", { tabindex: "0", role: "region", "aria-label": "Runs" },
      make("table.runs", {}, make("caption.hidden", {}, "Runs"), make("thead", {}, make("tr", {}, make("th", { scope: "col" }, make("span.hidden", {}, "Compare")), this.headings)), this.body));
    this.empty = make("p.empty");
    this.element = make("section.card", { "aria-labelledby": "about-runs" },
      make("div.row.tools", {}, make("h2", { id: "about-runs" }, "Runs"),
        make("label", { for: "run-words" }, "Filter", this.words), make("label", { for: "run-state" }, "State", this.state), this.count, this.compare),
      this.scroll, this.empty);
    this.mark();
  }

  show(runs) {
    this.runs = runs;
    const known = new Set(runs.map((run) => run.id));
    for (const [id, row] of this.rows) {
      if (known.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
      this.chosen.delete(id);
    }
    for (const run of runs) this.row(run);
    const hasOwners = runs.some((run) => run.owner);
    this.scroll.classList.toggle("no-owner", !hasOwners);
    this.arrange();
  }

  /** The row of a run, with its present values. */
  row(run) {
    let row = this.rows.get(run.id);
    if (!row) {
      const box = make("input", { type: "checkbox", "aria-label": `Compare ${run.name}`, onchange: () => this.choose(run.id, box.checked) });
      const cells = columns.map((column) => (column.key === "name" ? make("th", { scope: "row" }, make("a", { href: `#/run/${run.id}` }, run.name))
        : column.key === "state" ? make("td", {}, make("span"))
        : make(column.isNumber ? "td.number" : "td", { "data-key": column.key })));
      row = { element: make("tr", {}, make("td", {}, box), cells), cells };
      this.rows.set(run.id, row);
    }
    columns.forEach((column, place) => {
      if (column.text) say(row.cells[place], column.text(run));
    });
    const badge = row.cells[1].firstChild;
    say(badge, run.state);
    if (badge.className !== `badge ${run.state}`) badge.className = `badge ${run.state}`;
    if (row.reason !== run.reason) {
      row.reason = run.reason;
      badge.title = run.reason;
    }
    return row;
  }

  /** Puts the rows that are wanted into the order that is wanted, and moves as few of them as possible. */
  arrange() {
    const words = this.words.value.toLowerCase().split(/\s+/).filter((word) => word);
    const isWanted = (run) => (!this.state.value || run.state === this.state.value)
      && words.every((word) => `${run.name} ${run.id} ${run.dataset ?? ""} ${run.owner ?? ""} ${run.reason}`.toLowerCase().includes(word));
    // The newest ones come first.
    const wanted = this.runs.filter(isWanted).reverse();
    if (this.order) {
      const column = columns.find((column) => column.key === this.order.key), sign = this.order.isDown ? -1 : 1;
      const compared = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
      const values = new Map(wanted.map((run) => [run, column.value(run)]));
      wanted.sort((a, b) => {
        const x = values.get(a), y = values.get(b);
        return x === null || y === null ? (x === null) - (y === null) : sign * compared(x, y);
      });
    }
    wanted.forEach((run, place) => {
      const { element } = this.rows.get(run.id), present = this.body.children[place];
      if (present !== element) this.body.insertBefore(element, present ?? null);
    });
    while (this.body.children.length > wanted.length) this.body.lastChild.remove();
    this.scroll.hidden = !wanted.length;
    this.empty.hidden = wanted.length > 0;
    if (!this.runs.length) this.empty.replaceChildren("No run yet. Submit one with ", make("code", {}, "ress submit configs/my.yaml"), ".");
    else say(this.empty, "No run matches the filter.");
    say(this.count, wanted.length === this.runs.length ? plural(wanted.length, "run") : `${whole(wanted.length)} of ${plural(this.runs.length, "run")}`);
    // In the order of the table, so that the colours of a comparison follow it.
    const chosen = wanted.filter((run) => this.chosen.has(run.id));
    this.compare.hidden = chosen.length < 2;
    say(this.compare, `Compare ${chosen.length} runs`);
    this.compare.setAttribute("href", "#/compare/" + chosen.map((run) => run.id).join("/"));
  }

  choose(id, isChosen) {
    if (isChosen) this.chosen.add(id);
    else this.chosen.delete(id);
    this.arrange();
  }

  /** The first choice of a column sorts it the way that is most often wanted, the second one the other way, the third one not at all. */
  sort(column) {
    const first = column.isDown ?? false;
    if (this.order?.key !== column.key) this.order = { key: column.key, isDown: first };
    else this.order = this.order.isDown === first ? { key: column.key, isDown: !first } : null;
    this.mark();
    this.change();
  }

  mark() {
    for (const heading of this.headings) {
      const isSorted = this.order?.key === heading.dataset.key;
      if (isSorted) heading.setAttribute("aria-sort", this.order.isDown ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
  }

  change() {
    this.arrange();
    this.keep({ q: this.words.value.trim(), state: this.state.value, sort: this.order ? (this.order.isDown ? "-" : "") + this.order.key : "" });
  }
}
