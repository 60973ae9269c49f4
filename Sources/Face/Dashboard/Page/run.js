// One run: its curves and speed, where its time goes, its configuration, and its events.

import { badge, fact, facts, progress, secondsLeft } from "./cluster.js";
import { Chart } from "./chart.js";
import { ExpertPanel } from "./experts.js";
import { GraphPanel } from "./graph.js";
import { axis, bytes, clock, compact, countdown, duration, fill, fixed, make, moment, number, percent, plural, ranges, section, table, whole } from "./page.js";

const causes = {
  useful: "Steps that count", start: "Loading and starting", checkpoint: "Checkpoints and copies", fault: "Losses of workers",
  straggler: "Waiting for the slowest", exchange: "Waiting for the network",
};
const shown = { story: 200, generations: 12, checkpoints: 50 };

/** The banner of a run that is not running, and what the user can do. */
const endings = {
  failed: ["Failed", (run) => ["The whole story: ", make("code", {}, `ress logs ${run.name}`)]],
  cancelled: ["Cancelled", (run) => ["To continue from its newest checkpoint: ", make("code", {}, resuming(run))]],
  paused: ["Paused", (run) => ["To continue: ", make("code", {}, resuming(run))]],
};

/** The command that continues a run. */
const resuming = (run) => (run.state === "finished" ? `ress submit CONFIG --resume --set run=${run.name} --set training.steps=${2 * run.steps}` : `ress resume ${run.name}`);

const band = (columns, n) => [columns.minimum[n], columns.mean[n], columns.maximum[n]];

/** The workers for which a worker has waited for more than a second: `worker-2, worker-3 and 5 others`. */
const waits = ({ waitsFor, waitsForCount }) => {
  const left = waitsForCount - waitsFor.length, parts = left > 0 ? [...waitsFor, plural(left, "other")] : waitsFor;
  return parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts[parts.length - 1]}` : parts[0] ?? "";
};

/** The data of a run that the coordinator has sent so far, merged. */
export class Picture {
  constructor() {
    this.event = 0;
    this.shape = "";
    this.points = [];
    for (const name of ["evaluations", "generations", "story", "checkpoints"]) this[name] = [];
  }

  take(page) {
    if (page.isWhole) Object.assign(this, new Picture());
    const { first, last, loss, throughput, gradientNorm } = page.curve;
    if (first.length) this.points = this.points.filter((point) => point.first < first[0]);
    first.forEach((step, n) => this.points.push({
      first: step, last: last[n], skipped: page.curve.skipped[n],
      loss: band(loss, n), throughput: band(throughput, n), norm: band(gradientNorm, n),
      rate: page.curve.learningRate[n], tokens: page.curve.tokens[n], seconds: page.curve.seconds[n] }));
    for (const [name, most] of [["evaluations", 2000], ["generations", 100], ["story", 400]]) {
      this[name] = this[name].concat(page[name]).slice(-most);
    }
    // One that was sent before may have been removed since, so all of them are sent.
    this.checkpoints = page.checkpoints;
    ({ event: this.event, shape: this.shape, newest: this.newest, router: this.router, isReading: this.isReading } = page);
  }

  series(name) {
    return this.points.map((point) => {
      const [low, mean, high] = Array.isArray(point[name]) ? point[name] : [point[name], point[name], point[name]];
      return { first: point.first, last: point.last, low, mean, high };
    });
  }
}

export class RunView {
  constructor(run, graph) {
    this.run = run;
    this.picture = new Picture();
    this.tag = null;
    this.head = make("div");
    this.loss = new Chart({ name: "Loss", unit: (value) => `${fixed(value, 4)} nats`, tick: axis });
    this.speed = new Chart({ name: "Tokens a second", unit: (value) => `${compact(value)} tokens/s`, tick: (value) => compact(value, true), fromZero: true });
    this.norm = new Chart({ name: "Gradient norm", unit: (value) => fixed(value, 3), tick: (value) => compact(value, true), fromZero: true });
    this.rate = new Chart({ name: "Learning rate", unit: (value) => String(Number(value.toPrecision(3))), tick: (value) => String(Number(value.toPrecision(3))), fromZero: true });
    this.setup = make("div");
    this.configuration = make("div");
    this.time = make("div");
    this.costs = make("div");
    this.experts = new ExpertPanel();
    this.graph = new GraphPanel(run, graph);
    this.generations = make("div");
    this.story = make("div");
    this.checkpoints = make("div");
    this.scale = make("fieldset.choice", { onchange: () => this.drawCurves() }, make("legend.hidden", {}, "Axis of steps"),
      ["linear", "log"].map((kind, place) => make("label", {}, make("input", { type: "radio", name: "scale", value: kind, checked: place === 0 }), make("span", {}, kind))));
    const lossCard = section("Loss", make("p.key", {}, make("span.key-line", {}, "training, mean and spread"), make("span.key-dot", {}, "validation"), make("span.key-mark", {}, "generation begins"), make("span.key-gap", {}, "not applied")), this.loss.element);
    lossCard.querySelector("h2").after(this.scale);
    this.element = make("div.view.one", {}, this.head,
      this.board = make("div.board", {},
        this.lossBox = make("div.wide", {}, lossCard), this.speedBox = make("div.low", {}, section("Throughput", this.speed.element)),
        this.normBox = make("div.low", {}, section("Gradient norm", this.norm.element)),
        this.rateBox = make("div.low", {}, section("Learning rate", this.rate.element)), section("Setup", this.setup),
        section("Where the time went", this.time), section("Experts", this.experts.element),
        this.costsBox = make("div.wide", {}, section("Plan and workers", this.costs)),
        make("div.wide", {}, section("Tokens that the model links", this.graph.element)),
        section("What happened", this.story),
        make("div.stack", {}, section("Checkpoints", this.checkpoints), section("Generations", this.generations)),
        make("div.wide", {}, section("Configuration", this.configuration))));
  }

  close() {
    for (const part of [this.loss, this.speed, this.norm, this.rate, this.graph]) part.close();
  }

  async look(ask) {
    const { value: cluster } = await ask(`/api/cluster?run=${this.run}`);
    this.program = cluster.program;
    const run = cluster.runs.find((run) => run.id === this.run);
    if (!run) {
      this.title = "no such run";
      this.board.hidden = true;
      return fill(this.head, make("p.card.empty", {}, "This coordinator has no such run. ", make("a", { href: "#/" }, "All runs"), "."));
    }
    this.board.hidden = false;
    this.title = run.name;
    const { picture } = this;
    // The details change only when the run is submitted again.
    if (!this.details || this.detailsOf !== run.state) {
      const { status, value } = await ask(`/api/runs/${this.run}/details`);
      if (status === 200) {
        [this.details, this.detailsOf] = [value, run.state];
        this.drawConfiguration();
      }
    }
    const { status, tag, value: page } = await ask(`/api/runs/${this.run}?since=${picture.event}&shape=${picture.shape}`, this.tag);
    if (status === 200) {
      this.tag = tag;
      picture.take(page);
      this.drawCurves();
      const roster = picture.generations[picture.generations.length - 1]?.workers;
      this.experts.show(picture.router, picture.newest, roster);
      this.tell(run);
    }
    this.drawHead(run);
    // One empty chart shows that nothing was computed yet; a run that ended without a step needs no chart.
    const isEmpty = !this.picture.points.length;
    this.speedBox.hidden = this.normBox.hidden = this.rateBox.hidden = isEmpty;
    this.lossBox.hidden = isEmpty && run.state in endings;
    this.drawTime(run);
    this.drawCosts(run);
    this.drawSetup(run);
    this.graph.show(cluster.drawsGraphs, run);
  }

  drawHead(run) {
    const left = secondsLeft(run), { newest } = this.picture;
    const [word, advice] = endings[run.state] ?? [];
    const banner = !word && run.skipped ? make("div.banner.failed", { role: "status" },
      make("p", {}, make("strong", {}, "The newest step was not applied: "), run.skipped)) : word && make(`div.banner.${run.state}`, { role: "status" },
      make("p", {}, make("strong", {}, `${word}: `), run.reason || "no reason was given"), make("p.note", {}, advice(run)));
    fill(this.head, make("div.title", {}, make("h1", {}, run.name), badge(run.state), make("a", { href: `#/compare/${run.id}` }, "Compare"), !word && run.reason && make("p.reason", {}, run.reason)),
      banner,
      make("div.steps", {}, progress(run), make("span.number", {}, `${whole(run.step)} / ${whole(run.steps)} steps`)),
      make("dl.tiles", {},
        facts.loss(run, 4), facts.validation(run, 4), facts.speed(run), fact("A step", duration(run.secondsPerStep), "Mean of the last steps"),
        fact("Left", left === null ? "–" : countdown(left), "At the present pace"), facts.goodput(run, 1),
        facts.workers(run), fact("Generation", run.memberships || "–", "Number of memberships so far"),
        fact("Gradient", newest ? fixed(newest.gradientNorm, 2) : "–", "Gradient norm of the newest step, before clipping"),
        fact("Saved at", run.checkpoint ? whole(run.checkpoint) : "–", "Step of the newest checkpoint")));
  }

  drawCurves() {
    const { picture } = this, isLog = this.scale.querySelector("input:checked").value === "log";
    const marks = picture.generations.slice(1).map((generation) => ({ step: generation.step, text: `generation ${generation.ordinal}` }));
    const gaps = [];
    for (const { first, last, skipped } of picture.points.filter((point) => point.skipped)) {
      const before = gaps[gaps.length - 1];
      if (before && before.last === first - 1) Object.assign(before, { last, skipped: before.skipped + skipped });
      else gaps.push({ first, last, skipped });
    }
    for (const gap of gaps) gap.text = `${plural(gap.skipped, "step")} not applied: a loss or a gradient was not finite`;
    this.loss.set({ points: picture.series("loss"), marks, gaps, dots: picture.evaluations.filter((line) => number(line.loss) !== null)
      .map((line) => ({ step: line.step, value: line.loss, text: `validation ${fixed(line.loss, 4)} at step ${whole(line.step)}` })) }, isLog);
    this.speed.set({ points: picture.series("throughput"), marks }, isLog);
    this.norm.set({ points: picture.series("norm"), marks, gaps }, isLog);
    this.rate.set({ points: picture.series("rate") }, isLog);
  }

  drawSetup(run) {
    const { details } = this, tokens = this.picture.points.reduce((sum, point) => sum + point.tokens, 0);
    const rows = [
      ["Dataset", run.dataset ? make("code", {}, run.dataset) : "–"], ["Owner", run.owner ?? "no keys are in use"],
      ["Started", moment(run.began)], ["Duration", number(run.began) === null ? "–" : duration(run.lastRecord - run.began)],
      ["Tokens", compact(tokens)], ["Folder", details ? make("code", {}, details.folder) : "–"], ["Identifier", make("code", {}, run.id)],
      !(run.state in endings) && run.state !== "finished" && ["To pause", make("code", {}, `ress pause ${run.name}`)],
      [run.state === "finished" ? "To train further" : "To continue", make("code", {}, resuming(run))]].filter((row) => row);
    fill(this.setup, make("dl.pairs", {}, rows.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])));
  }

  drawConfiguration() {
    const lines = this.details.configuration, set = lines.filter((line) => !line.isDefault);
    const shownAs = (caption, lines) => table(caption, ["Key", "Value", "Meaning"], lines.map((line) => [make("code", {}, line.key), make("code", {}, line.value), make("span.meaning", {}, line.meaning)]));
    fill(this.configuration, make("p.note", {}, `${plural(set.length, "key")} of ${lines.length} differ from the defaults.`), shownAs("Keys that differ from the defaults", set),
      make("details", {}, make("summary", {}, "All keys"), shownAs("All keys", lines)));
  }

  drawTime(run) {
    const total = run.causes.reduce((sum, part) => sum + part.seconds, 0);
    if (!total) return fill(this.time, make("p.empty", {}, "Time is counted from the first step on."));
    const parts = run.causes.filter((part) => part.seconds > 0);
    let before = 0;
    const bar = make("svg.shares", { viewBox: "0 0 1000 28", preserveAspectRatio: "none", role: "img", "aria-label": parts.map((part) => `${causes[part.cause] ?? part.cause} ${percent(part.seconds / total, 1)}`).join(", ") },
      parts.map((part) => {
        const width = (1000 * part.seconds) / total, x = before;
        before += width;
        return make(`rect.cause.${part.cause}`, { x: x.toFixed(2), width: Math.max(0.5, width).toFixed(2), y: 0, height: 28 });
      }));
    fill(this.time, bar, table("Where the time went", ["Cause", "Time", "Share"], run.causes.map((part) => [
      make("span.swatch-line", {}, make(`span.swatch.${part.cause}`, { "aria-hidden": "true" }), causes[part.cause] ?? part.cause), duration(part.seconds), percent(part.seconds / total, 1)]), { numeric: [1, 2] }));
  }

  /** What was planned beside what was measured, and what each worker does in a step. */
  drawCosts(run) {
    const { expected, actual, workers } = run.costs;
    const rows = [["A step", "stepSeconds", duration], ["of it, waiting", "waitSeconds", duration], ["Memory of a worker", "memoryBytes", bytes],
      ["Sent by a worker in a step", "sentBytes", bytes], ["A checkpoint", "checkpointBytes", bytes]]
      .filter(([, key]) => number(expected[key] ?? null) !== null || number(actual[key] ?? null) !== null);
    this.costsBox.hidden = !rows.length && !workers.length;
    if (this.costsBox.hidden) return;
    const known = (value, show) => (number(value ?? null) === null ? "–" : show(value));
    const change = (planned, measured) => (planned > 0 && measured !== undefined ? `${measured < planned ? "−" : "+"}${percent(Math.abs(measured / planned - 1), 0)}` : "");
    fill(this.costs,
      rows.length > 0 && table("Plan and measurement", ["", "Planned", "Measured", "Difference"], rows.map(([name, key, show]) =>
        [name, known(expected[key], show), known(actual[key], show), change(expected[key], actual[key])]), { numeric: [1, 2, 3] }),
      rows.length > 0 && !Object.keys(expected).length && make("p.note", {}, "Nothing was planned: ", make("code", {}, "ress plan CONFIG"), " before the run."),
      workers.length > 0 && make("div.tale", {}, table("Workers in a step", ["Worker", "Computes", "Waits", "Last", "Sent", "Memory", "Waits now for"], workers.map((worker) => [
        worker.worker, known(worker.busySeconds, duration), known(worker.waitSeconds, duration),
        make("span", { title: "Share of the steps in which it computed longest, so that all others waited for it" }, known(worker.lastShare, (share) => percent(share, 0))),
        known(worker.sentBytes, bytes), known(worker.memoryBytes, bytes), waits(worker)]), { numeric: [1, 2, 3, 4, 5] })));
  }

  tell(run) {
    const { picture } = this;
    fill(this.story, picture.isReading && make("p.note", {}, "Older parts are still being read."),
      picture.story.length ? make("div.tale", { tabindex: "0", role: "region", "aria-label": "What happened" }, make("ol.story", { reversed: true }, picture.story.slice(-shown.story).reverse().map((line) =>
        make("li", {}, make("span.when", {}, `step ${whole(line.step)}`, line.time && make("time", {}, clock(line.time))),
          make(`span.badge.${line.kind}`, {}, line.kind), make("span.what", {}, line.text || line.kind)))))
        : make("p.empty", {}, "Nothing yet."));
    const generations = picture.generations.slice(-shown.generations).reverse();
    fill(this.generations, generations.length ? generations.map((generation, place) => make("details", { open: place === 0 },
      make("summary", { title: `generation ${generation.number} in the logs of its workers` }, make("strong", {}, `Generation ${generation.ordinal}`), ` since step ${whole(generation.step)} · ${plural(generation.workers.length, "worker")}`),
      table(`Generation ${generation.ordinal}`, ["Worker", "Host", "Experts", "Units"], generation.workers.map((worker) => [
        worker.name, `${worker.host} · ${worker.process}`, ranges(worker.experts) || "–",
        worker.units[1] > worker.units[0] ? ranges([...Array(worker.units[1] - worker.units[0]).keys()].map((n) => n + worker.units[0])) : "–"]))))
      : run.state in endings ? make("p.empty", {}, "It had no workers.")
      : make("p.empty", {}, "It has had no workers yet. Start one: ", make("code", {}, "ress worker"), "."));
    const checkpoints = picture.checkpoints.slice(-shown.checkpoints).reverse();
    fill(this.checkpoints, checkpoints.length
      ? make("div.tale", {}, table("Checkpoints", ["Step", "Total loss", "Validation", "Size", "Folder"], checkpoints.map((line) => [whole(line.step), fixed(line.loss, 4),
          fixed(picture.evaluations.find((evaluation) => evaluation.step === line.step)?.loss, 4), line.isGone ? "removed" : bytes(line.byteCount), make("code", { title: line.path }, line.path.split("/").pop())]), { numeric: [1, 2, 3] }))
      : make("p.empty", {}, "None yet; checkpoint.every sets how often they are written."));
  }
}
