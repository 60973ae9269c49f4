// All runs and all workers.

import { compact, countdown, duration, fill, fixed, keepInAddress, make, number, percent, plural, queryOf, section, table, whole } from "./page.js";
import { RunTable } from "./runs.js";

const atWork = (run) => run.state === "running" || run.state === "placing" || run.state === "queued";

export const badge = (state) => make(`span.badge.${state}`, {}, state);

export function progress(run) {
  const share = run.steps > 0 ? Math.min(1, run.step / run.steps) : 0;
  return make("progress", { max: "1", value: share.toFixed(4), "aria-label": `${run.name}: ${whole(run.step)} of ${whole(run.steps)} steps` });
}

/** Seconds until the last step, at the present pace; null if they cannot be estimated. */
export const secondsLeft = (run) =>
  run.state === "running" && number(run.secondsPerStep) !== null ? (run.steps - run.step) * run.secondsPerStep : null;

/** A small curve without axes. */
function spark(values, label) {
  const points = values.filter((value) => number(value) !== null);
  if (points.length < 2) return null;
  const low = Math.min(...points), high = Math.max(...points), span = high - low || 1;
  const path = points.map((value, place) => `${((place / (points.length - 1)) * 118 + 1).toFixed(1)},${(27 - ((value - low) / span) * 25).toFixed(1)}`);
  return make("svg.spark", { viewBox: "0 0 120 29", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    make("polyline", { points: path.join(" ") }));
}

export function fact(name, value, hint) {
  return make("div.fact", {}, make("dt", {}, name), make("dd", { title: hint }, value));
}

/** The facts that a run's card and its page share. */
export const facts = {
  loss: (run, digits) => fact("Loss", run.skipped ? make("span.bad", {}, "skipped") : fixed(run.loss, digits), run.skipped ? `The newest step was not applied: ${run.skipped}` : "Loss of the newest step, nats a target"),
  validation: (run, digits) => fact("Validation", fixed(run.validation, digits), "Loss of the newest evaluation, nats a target"),
  speed: (run) => fact("Tokens/s", compact(run.tokensPerSecond), "Mean of the last steps"),
  goodput: (run, digits) => fact("Goodput", percent(run.goodput, digits), "Share of the workers' time that went into steps that count"),
  /** A silent worker is stopped or cannot be reached, and does not count as a worker of the run. */
  workers: (run) => fact("Workers", run.heard < run.workers.length ? make("span.bad", {}, `${run.heard} / ${run.wantedWorkers}`) : `${run.heard} / ${run.wantedWorkers}`,
    run.heard < run.workers.length ? `Present and requested; silent: ${plural(run.workers.length - run.heard, "worker")}` : "Present and requested"),
};

function runCard(run) {
  const left = secondsLeft(run);
  return make("li.card.run", {},
    make("div.head", {}, make("h3", {}, make("a", { href: `#/run/${run.id}` }, run.name)), badge(run.state)),
    make("div.steps", {}, progress(run), make("span.number", {}, `${whole(run.step)} / ${whole(run.steps)}`)),
    make("div.body", {},
      make("dl.facts", {},
        facts.loss(run, 3), facts.validation(run, 3), facts.speed(run), facts.goodput(run), facts.workers(run),
        left === null ? fact("Saved", run.checkpoint ? whole(run.checkpoint) : "–", "Step of the newest checkpoint") : fact("Left", countdown(left), "At the present pace")),
      spark(run.spark, `${run.name}'s loss, from ${fixed(run.spark[0], 2)} to ${fixed(run.spark[run.spark.length - 1], 2)}`)),
    run.reason && make("p.reason", {}, run.reason));
}

/** Cards of runs that are shown above the table, at most. */
const cardLimit = 12;

export class ClusterView {
  constructor(hash) {
    this.tiles = make("dl.tiles");
    this.cards = make("div");
    this.workers = make("div");
    this.table = new RunTable(queryOf(hash), (query) => keepInAddress("#/", query));
    this.element = make("div.view", {}, make("h1.hidden", {}, "Cluster"), this.tiles, this.cards, this.table.element, this.workers);
  }

  async look(ask) {
    const { value } = await ask("/api/cluster");
    this.program = value.program;
    // The state of many runs takes longer to send and to show.
    this.pause = 1 + value.runs.length / 250;
    const active = value.runs.filter((run) => run.state === "running");
    const busy = value.workers.filter((worker) => worker.run && !worker.isSilent).length;
    fill(this.tiles,
      fact("Running", whole(active.length)), fact("Waiting", whole(value.runs.filter((run) => run.state === "queued" || run.state === "placing").length)),
      fact("Busy workers", `${whole(busy)} / ${whole(value.workers.length)}`),
      fact("Tokens a second", compact(active.reduce((sum, run) => sum + (number(run.tokensPerSecond) ?? 0), 0))));

    // Running ones first.
    const atWorkNow = value.runs.filter(atWork).sort((a, b) => (b.state === "running") - (a.state === "running")).slice(0, cardLimit);
    fill(this.cards, atWorkNow.length > 0 && make("section", { "aria-labelledby": "about-work" }, make("h2", { id: "about-work" }, "At work"),
      make("ul.cards", {}, atWorkNow.map(runCard))));
    this.table.show(value.runs);

    const here = value.workers.map((worker) => [
      worker.name, `${worker.host} · ${worker.process}`, worker.run ?? "free", worker.threads || "shared",
      worker.isSilent ? make("span.bad", {}, `silent for ${duration(worker.silentSeconds)}`) : "now", worker.waiting ?? ""]);
    // The newest one first.
    const gone = value.gone.slice().reverse().map((worker) => [
      make("span.gone", {}, worker.name), `${worker.host} · ${worker.process}`, worker.run ?? "free", "–",
      make("span.bad", {}, `gone for ${duration(worker.secondsAgo)}`), worker.reason]);
    fill(this.workers, section("Workers", here.length || gone.length
      ? table("Workers", ["Worker", "Host", "Run", "Threads", "Last message", "Note"], here.concat(gone), { numeric: [3, 4] })
      : make("p.empty", {}, "No worker is connected. Start one on each machine with ",
          make("code", {}, "ress worker --coordinator ADDRESS"), ".")));
    if (value.workers.length) this.workers.querySelector("h2").title = plural(value.workers.length, "worker");
  }
}
