// The token graph of a sample (SOES): the neighbours of each token, their weights, and how they change between steps of recurrence.

import { ask, fill, fixed, make, percent, say, shade, table, whole } from "./page.js";

const listed = 12;

export class GraphPanel {
  /** wanted: [split, sample, segment] of a link. */
  constructor(run, wanted) {
    this.run = run;
    this.isClosed = false;
    this.asking = 0;
    this.split = make("select", { id: "graph-split" }, make("option", { value: "validation" }, "validation"), make("option", { value: "train" }, "train"));
    this.sample = make("input", { id: "graph-sample", type: "number", min: "0", max: "1000000000", value: "0", required: true, inputmode: "numeric" });
    this.segment = make("input", { id: "graph-segment", type: "number", min: "0", max: "1000000", value: "0", required: true, inputmode: "numeric" });
    this.button = make("button.primary", { type: "submit" }, "Show");
    this.form = make("form.row", { onsubmit: (event) => { event.preventDefault(); this.begin(); } },
      make("label", { for: "graph-split" }, "Split", this.split), make("label", { for: "graph-sample" }, "Sample", this.sample),
      make("label", { for: "graph-segment" }, "Segment", this.segment), this.button);
    this.note = make("p.note", { role: "status" }, "The token graph of a sequence of the run's data, computed by the newest checkpoint's model in a few seconds.");
    this.stage = make("div.stage", { hidden: true });
    this.element = make("div", {}, this.form, this.note, this.stage);
    this.build();
    if (wanted) {
      [this.split.value, this.sample.value, this.segment.value] = wanted;
      this.begin();
    }
  }

  close() {
    this.isClosed = true;
    this.observer?.disconnect();
  }

  show(isDrawn, run) {
    const reason = !isDrawn ? "This coordinator computes no graphs." : run.checkpoint === undefined ? "A graph needs a checkpoint's model, and this run has no checkpoint yet." : null;
    this.button.disabled = reason !== null;
    if (reason) say(this.note, reason);
    else if (!this.graph && !this.asking && this.note.textContent.startsWith("A graph needs")) say(this.note, "Choose a sample of the run's data.");
  }

  // MARK: Requesting

  async begin() {
    const turn = ++this.asking;
    this.button.disabled = true;
    const began = Date.now();
    const path = `/api/runs/${this.run}/graph?split=${this.split.value}&sample=${Number(this.sample.value)}&segment=${Number(this.segment.value)}`;
    try {
      while (turn === this.asking && !this.isClosed) {
        const { status, retry, value } = await ask(path);
        if (status === 200) {
          history.replaceState(null, "", `#/run/${this.run}/graph/${value.split}/${value.sample}/${value.segment}`);
          this.take(value);
          break;
        }
        if (status !== 202 && status !== 503) {
          say(this.note, value?.error ?? `no answer (${status})`);
          break;
        }
        say(this.note, `Computing, ${Math.round((Date.now() - began) / 1000)} s …`);
        await new Promise((done) => setTimeout(done, 1000 * retry));
      }
    } catch (error) {
      say(this.note, "The coordinator does not answer.");
    }
    this.button.disabled = false;
  }

  // MARK: The picture

  build() {
    this.slider = make("input", { id: "graph-step", type: "range", min: "1", max: "1", value: "1", step: "1", oninput: () => this.draw() });
    this.stepName = make("label", { for: "graph-step" });
    this.text = make("div.tokens", { role: "listbox", tabindex: "0", "aria-label": "Tokens of the segment", onkeydown: (event) => this.key(event), onclick: (event) => this.click(event) });
    this.summary = make("p.note");
    this.canvas = make("canvas.matrix", { role: "img", onclick: (event) => this.pick(event) });
    this.list = make("div");
    this.stage.append(make("div.slider", {}, this.stepName, this.slider), this.summary, this.text,
      make("div.pair", {}, this.list, make("figure", {}, this.canvas, make("figcaption.note", {}, "Rows: tokens of the segment. Columns: the tokens that they see, the oldest first. Stronger colours mean larger weights; tap a row to select it."))));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.graph && !this.isClosed && this.draw());
  }

  take(graph) {
    this.graph = graph;
    this.stage.hidden = false;
    say(this.note, `Model of step ${whole(graph.step)}, ${graph.split} sample ${whole(graph.sample)} of ${whole(graph.samples)}, segment ${graph.segment} of ${graph.segments}. Select a token with a tap or the arrow keys.`);
    this.sample.max = graph.samples - 1;
    this.segment.max = graph.segments - 1;
    this.slider.max = graph.steps.length;
    this.slider.value = graph.steps.length;
    this.slider.disabled = graph.steps.length < 2;
    this.tokens = graph.texts.map((text, place) => {
      const isOwn = place >= graph.own;
      return make(isOwn ? "span.token" : "span.token.earlier", { id: `token-${place}`, role: isOwn ? "option" : undefined, "aria-selected": isOwn ? "false" : undefined, "data-place": place }, visible(text));
    });
    // Cells and nodes are whole words: they need space between them.
    this.text.classList.toggle("apart", graph.texts.some((text) => text.length > 24) || graph.windowBefore + graph.windowAfter === 0);
    this.text.replaceChildren(...this.tokens.flatMap((token, place) => (graph.texts[place].includes("\n") ? [token, make("br")] : [token])));
    this.chosen = graph.own + Math.floor((graph.texts.length - graph.own) * 0.75);
    this.draw();
  }

  /** {place: weight} of a row at a step of recurrence. */
  row(place, t) {
    const step = this.graph.steps[t], row = place - this.graph.own;
    return new Map(step.neighbours[row].map((neighbour, n) => [neighbour, step.weights[row][n]]));
  }

  draw() {
    const { graph } = this, t = Number(this.slider.value) - 1;
    say(this.stepName, `Step of recurrence ${t + 1} of ${graph.steps.length}`);
    this.slider.setAttribute("aria-valuetext", `${t + 1} of ${graph.steps.length}`);
    say(this.summary, `Weight beyond the window of ${graph.windowBefore + 1 + graph.windowAfter}: ` + graph.steps.map((_, n) => `${percent(this.farShare(n))} at t = ${n + 1}`).join(", ") + ".");
    const row = this.row(this.chosen, t), most = Math.max(...row.values(), 1e-9);
    this.tokens.forEach((token, place) => {
      const weight = row.get(place) ?? 0;
      token.style.setProperty("--weight", (weight / most).toFixed(3));
      token.classList.toggle("joined", weight > 0);
      shade(token, weight / most);
      token.classList.toggle("chosen", place === this.chosen);
      if (place >= graph.own) token.setAttribute("aria-selected", String(place === this.chosen));
    });
    this.text.setAttribute("aria-activedescendant", `token-${this.chosen}`);
    this.drawList(t);
    this.drawMatrix(t);
  }

  farShare(t) {
    const { graph } = this, step = graph.steps[t];
    let far = 0, all = 0;
    step.neighbours.forEach((neighbours, row) => neighbours.forEach((place, n) => {
      const distance = place - (row + graph.own);
      all += step.weights[row][n];
      if (distance < -graph.windowBefore || distance > graph.windowAfter) far += step.weights[row][n];
    }));
    return all > 0 ? far / all : 0;
  }

  drawList(t) {
    const { graph } = this, rows = graph.steps.map((_, n) => this.row(this.chosen, n));
    const best = [...rows[t]].sort((a, b) => b[1] - a[1]).slice(0, listed);
    const name = (place) => `${visible(graph.texts[place])} `;
    fill(this.list, make("h3", {}, "Token ", make("q", {}, visible(graph.texts[this.chosen])), ` (${whole(graph.first + this.chosen)}) sees`),
      table("Neighbours with the largest weights", ["Token", "Back", ...graph.steps.map((_, n) => `t = ${n + 1}`)], best.map(([place]) => [
        make("span.name", {}, name(place)), this.chosen - place === 0 ? "itself" : whole(this.chosen - place),
        ...rows.map((row, n) => make(n === t ? "strong" : "span", {}, row.has(place) ? percent(row.get(place), 1) : "·"))]), { numeric: graph.steps.map((_, n) => n + 2).concat([1]) }));
  }

  drawMatrix(t) {
    const { graph } = this, columns = graph.texts.length, height = columns - graph.own;
    const style = getComputedStyle(this.canvas), paint = style.color.match(/[\d.]+/g).map(Number), mark = style.outlineColor.match(/[\d.]+/g).map(Number);
    this.canvas.width = columns;
    this.canvas.height = height;
    this.canvas.style.aspectRatio = `${columns} / ${height}`;
    const context = this.canvas.getContext("2d"), image = context.createImageData(columns, height);
    const put = (x, y, [r, g, b], alpha) => image.data.set([r, g, b, Math.round(255 * alpha)], 4 * (y * columns + x));
    const { neighbours, weights } = graph.steps[t];
    for (let x = 0; x < columns; x++) put(x, this.chosen - graph.own, mark, 0.35);
    neighbours.forEach((row, y) => row.forEach((x, n) => put(x, y, y === this.chosen - graph.own ? mark : paint, Math.min(1, 0.12 + Math.sqrt(weights[y][n])))));
    context.putImageData(image, 0, 0);
    this.canvas.setAttribute("aria-label", `The graph at step of recurrence ${t + 1}: ${height} tokens see ${fixed(neighbours.reduce((sum, row) => sum + row.length, 0) / height, 1)} tokens each on average. The table beside it lists the neighbours of the selected token.`);
  }

  // MARK: Choosing

  choose(place) {
    const { own, texts } = this.graph;
    this.chosen = Math.max(own, Math.min(texts.length - 1, place));
    this.draw();
  }

  key(event) {
    const { own, texts } = this.graph ?? {};
    if (own === undefined) return;
    const next = { ArrowLeft: this.chosen - 1, ArrowRight: this.chosen + 1, ArrowUp: this.line(-1), ArrowDown: this.line(1), Home: own, End: texts.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.choose(next);
    this.tokens[this.chosen].scrollIntoView({ block: "nearest" });
  }

  /** The token above or below the selected one, in the lines of the text. */
  line(direction) {
    const here = this.tokens[this.chosen].getBoundingClientRect();
    let best = this.chosen, distance = Infinity;
    for (let place = this.chosen + direction; place >= this.graph.own && place < this.tokens.length; place += direction) {
      const there = this.tokens[place].getBoundingClientRect(), down = (there.top - here.top) * direction;
      if (down < 2) continue;
      if (down > 2.5 * here.height) break;
      const across = Math.abs(there.left - here.left) + 1000 * Math.floor(down / (1.7 * here.height));
      if (across < distance) [best, distance] = [place, across];
    }
    return best;
  }

  click(event) {
    const token = event.target.closest("[data-place]");
    if (token && Number(token.dataset.place) >= this.graph.own) this.choose(Number(token.dataset.place));
  }

  pick(event) {
    const box = this.canvas.getBoundingClientRect();
    this.choose(this.graph.own + Math.floor(((event.clientY - box.top) / box.height) * this.canvas.height));
  }
}

/** Makes spaces and line breaks visible. */
function visible(text) {
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replaceAll(" ", "·") || "∅";
}
