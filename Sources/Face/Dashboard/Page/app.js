// The dashboard: chooses the view and polls the coordinator, once a second while the page is visible, and not at all while it is hidden.

import { ask, fill, make, NeedsWord, NoAnswer, hasWord, say, setWord } from "./page.js";
import { ClusterView } from "./cluster.js";
import { CompareView } from "./compare.js";
import { RunView } from "./run.js";

const main = document.getElementById("main");
const crumbs = document.getElementById("crumbs");
const pulse = document.getElementById("pulse");
const secondsBetweenLooks = 1;

let view = null;
let timer = null;
let isAsking = false;
let failures = 0;

// MARK: The address

/** #/ is the cluster, #/run/ID a run, #/run/ID/graph/SPLIT/SAMPLE/SEGMENT a run with a graph, and #/compare/ID/ID… several runs. A run's
 * name may replace ID. The cluster and a comparison keep their choices after a '?'. */
function wanted() {
  const several = location.hash.match(/^#\/compare\/([^?]{1,4000})/);
  if (several) return { compared: several[1].split("/").filter((part) => part).map(decoded) };
  const found = location.hash.match(/^#\/run\/([^/]{1,300})(?:\/graph\/(train|validation)\/(\d{1,10})\/(\d{1,7}))?$/);
  if (!found) return { isHome: /^(#\/?)?(\?.*)?$/.test(location.hash) };
  return { run: decoded(found[1]), graph: found[2] && found.slice(2) };
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function viewOf(place) {
  if (place.isHome) return new ClusterView(location.hash);
  if (place.compared) return new CompareView(place.compared, location.hash);
  if (place.run === undefined) return new LostView(`There is no page ${location.hash}.`);
  return /^[0-9a-f]{12}$/.test(place.run) ? new RunView(place.run, place.graph) : new LostView(`Looking for a run called ${place.run}.`, place.run);
}

/** Shows that a page or run does not exist; for a run's name, first looks for the newest run of that name. */
class LostView {
  constructor(sentence, name) {
    this.name = name;
    this.sentence = make("span", {}, sentence);
    this.element = make("div.view", {}, make("p.card.empty", { role: "status" }, this.sentence, " ", make("a", { href: "#/" }, "All runs"), "."));
  }

  async look(ask) {
    const { value } = await ask("/api/cluster");
    this.program = value.program;
    const run = this.name && value.runs.filter((run) => run.name === this.name).pop();
    if (run) return location.replace(location.hash.replace(/^#\/run\/[^/]+/, `#/run/${run.id}`));
    this.title = this.name ? "no such run" : "no such page";
    if (this.name) say(this.sentence, `This coordinator has no run called ${this.name}.`);
  }
}

function show() {
  view?.close?.();
  view = viewOf(wanted());
  main.replaceChildren(view.element);
  nameView();
  if (document.activeElement !== document.body) main.focus({ preventScroll: true });
  scrollTo(0, 0);
  look();
}

function nameView() {
  const title = view.title ?? "";
  document.title = title ? `${title} · ress` : "ress";
  fill(crumbs, make("li", {}, view instanceof ClusterView ? make("span", { "aria-current": "page" }, "Cluster") : make("a", { href: "#/" }, "Cluster")),
    !(view instanceof ClusterView) && make("li", {}, make("span", { "aria-current": "page" }, title || "run")));
}

// MARK: Polling

async function look() {
  clearTimeout(timer);
  if (document.hidden || isAsking) return;
  isAsking = true;
  const asked = view;
  try {
    await asked.look(ask);
    failures = 0;
    beat("live", "live");
    say(document.getElementById("program"), asked.program ?? "");
    if (asked === view) nameView();
  } catch (error) {
    if (error instanceof NeedsWord) {
      isAsking = false;
      return askForWord();
    }
    failures += 1;
    beat("lost", "no answer from the coordinator");
    if (!(error instanceof NoAnswer)) console.error(error);
  }
  isAsking = false;
  // A coordinator that does not answer is polled less and less often.
  const pause = asked === view ? Math.min(15, (view.pause ?? secondsBetweenLooks) * 2 ** Math.min(failures, 4)) : 0;
  timer = setTimeout(look, 1000 * pause);
}

function beat(kind, text) {
  pulse.dataset.kind = kind;
  say(document.getElementById("pulse-text"), text);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) beat("still", "asleep");
  else look();
});
addEventListener("hashchange", show);

// MARK: The bearer token

function askForWord() {
  const isWrong = hasWord();
  setWord(null);
  beat("lost", "locked");
  const input = make("input", { id: "word", type: "password", autocomplete: "current-password", required: true, "aria-describedby": "word-hint" });
  const form = make("form.card.word", {
    onsubmit: (event) => {
      event.preventDefault();
      setWord(input.value.trim());
      show();
    } },
    make("h1", {}, "This coordinator requires a token"),
    make("p", { id: "word-hint" }, isWrong ? "The token was wrong. " : "",
      "The token is in the file that ", make("code", {}, "ress coordinator --http-token"), " names. It is kept until this tab closes."),
    make("label", { for: "word" }, "Token"),
    make("div.row", {}, input, make("button.primary", { type: "submit" }, "Continue")));
  main.replaceChildren(form);
  input.focus();
}

show();
