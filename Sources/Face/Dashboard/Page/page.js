// Helpers of all views: elements, numbers as text, and the coordinator's answers.

// MARK: Elements. Texts always become text nodes, so that a run's name can never be markup.

const svgSpace = "http://www.w3.org/2000/svg";
const svgNames = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "polyline", "title", "clipPath"]);

/** make("p.note", {id: "x", onclick: f}, "text", child …) */
export function make(kind, properties = {}, ...children) {
  const [name, ...classes] = kind.split(".");
  const element = svgNames.has(name) ? document.createElementNS(svgSpace, name) : document.createElement(name);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes an element's children equal to these by changing only the differences, so that focus, scroll positions and selections stay. */
export function fill(element, ...children) {
  morphChildren(element, make("div", {}, ...children));
}

function morphChildren(old, next) {
  const wanted = [...next.childNodes];
  wanted.forEach((child, place) => {
    const present = old.childNodes[place];
    if (!present) old.append(child);
    else if (present.nodeName !== child.nodeName) present.replaceWith(child);
    else if (present.nodeType === Node.TEXT_NODE) { if (present.data !== child.data) present.data = child.data; }
    else morph(present, child);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

function morph(old, next) {
  // Details that the user opened or closed stay so.
  for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of next.attributes) if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  morphChildren(old, next);
}

/** Sets a text if it has changed. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function table(caption, headings, rows, options = {}) {
  const numeric = options.numeric ?? [];
  return make("div.scroll", { tabindex: "0", role: "region", "aria-label": caption },
    make("table", {},
      make("caption.hidden", {}, caption),
      make("thead", {}, make("tr", {}, headings.map((text, place) =>
        make(numeric.includes(place) ? "th.number" : "th", { scope: "col" }, text)))),
      make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell, place) =>
        place === 0 ? make("th", { scope: "row" }, cell) : make(numeric.includes(place) ? "td.number" : "td", {}, cell)))))));
}

export function section(title, ...children) {
  const id = "about-" + title.toLowerCase().replace(/[^a-z]+/g, "-");
  return make("section.card", { "aria-labelledby": id }, make("h2", { id }, title), ...children);
}

// MARK: Numbers as text

/** Null for values that are not finite (the coordinator writes "nan"). */
export const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

export const whole = (value) => (number(value) === null ? "–" : Math.round(value).toLocaleString("en"));

export function fixed(value, digits) {
  return number(value) === null ? "–" : value.toFixed(digits).replace("-", "−");
}

/** 950, 12.3k, 4.56M; short: 12k, without digits after the point if they are 0. */
export function compact(value, isShort = false) {
  if (number(value) === null) return "–";
  for (const [limit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) < limit) continue;
    const scaled = value / limit;
    const text = scaled.toFixed(Math.abs(scaled) >= 100 ? 0 : Math.abs(scaled) >= 10 ? 1 : 2);
    return (isShort ? Number(text) : text) + letter;
  }
  if (Math.abs(value) >= 100 || value === Math.round(value)) return value.toFixed(0);
  return isShort ? String(Number(value.toPrecision(3))) : value.toPrecision(3);
}

/** A value at an axis whose ticks are `gap` apart, with as many digits as are needed to distinguish them. */
export function axis(value, gap) {
  if (number(value) === null) return "–";
  if (Math.abs(value) >= 1e5) return compact(value, true);
  const digits = gap > 0 ? Math.min(6, Math.max(0, Math.ceil(-Math.log10(gap) - 1e-9))) : 3;
  return (gap > 0 ? value.toFixed(digits) : String(Number(value.toFixed(digits)))).replace("-", "−");
}

export const percent = (share, digits = 0) => (number(share) === null ? "–" : (100 * share).toFixed(digits) + " %");

/** 240 ms, 2.4 s, 3 min 20 s, 5 h 12 min, 3 d 4 h */
export function duration(seconds) {
  if (number(seconds) === null) return "–";
  if (seconds > 0 && seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 10) return seconds.toFixed(1) + " s";
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

/** 1:05, 2:01:05, 3 d 4 h */
export function countdown(seconds) {
  const s = Math.round(seconds);
  if (s >= 86400) return duration(s);
  const two = (value) => String(value).padStart(2, "0");
  return (s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))}` : `${Math.floor(s / 60)}`) + `:${two(s % 60)}`;
}

/** The depth of an element's background colour, 0 … 1, which decides the colour of its text. */
export function shade(element, depth) {
  element.classList.toggle("half", depth > 0.57);
  element.classList.toggle("deep", depth > 0.77);
}

/** 27 Nov 13:05, with the year where it is not this one. */
export function moment(seconds) {
  if (number(seconds) === null) return "–";
  const date = new Date(seconds * 1000), isThisYear = date.getFullYear() === new Date().getFullYear();
  return date.toLocaleString("en-GB", { day: "numeric", month: "short", year: isThisYear ? undefined : "numeric", hour: "2-digit", minute: "2-digit" });
}

/** 512 B, 3.2 MiB */
export function bytes(count) {
  if (number(count) === null) return "–";
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${unit === "B" || value >= 10 ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

export const clock = (seconds) => (number(seconds) === null ? "" : new Date(seconds * 1000).toLocaleTimeString("en-GB"));

export const plural = (count, one, many = one + "s") => `${whole(count)} ${count === 1 ? one : many}`;

/** 0–3, 7, 9–12 */
export function ranges(numbers) {
  const parts = [];
  for (const value of numbers) {
    const last = parts[parts.length - 1];
    if (last && last[1] === value - 1) last[1] = value;
    else parts.push([value, value]);
  }
  return parts.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}

// MARK: The address

/** The part of the address after '?', as an object of texts. */
export const queryOf = (hash) => Object.fromEntries(new URLSearchParams(hash.split("?")[1] ?? ""));

/** Writes the state of a view into the address, without a new entry of the history; empty values are left out. */
export function keepInAddress(path, query) {
  const kept = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined)).toString();
  history.replaceState(null, "", kept ? `${path}?${kept}` : path);
}

// MARK: The coordinator's answers

const wordName = "ress-word";

export class NeedsWord extends Error {}

/** The coordinator cannot be reached. */
export class NoAnswer extends Error {}

export function setWord(word) {
  if (word) sessionStorage.setItem(wordName, word);
  else sessionStorage.removeItem(wordName);
}

export const hasWord = () => sessionStorage.getItem(wordName) !== null;

/** {status, tag, retry, value}; value is null if nothing is new (304). */
export async function ask(path, tag) {
  const headers = {};
  const word = sessionStorage.getItem(wordName);
  if (word) headers["Authorization"] = "Bearer " + word;
  if (tag) headers["If-None-Match"] = tag;
  const answer = await fetch(path, { headers, cache: "no-store" }).catch(() => { throw new NoAnswer(); });
  if (answer.status === 401) throw new NeedsWord();
  const retry = Number(answer.headers.get("Retry-After")) || 1;
  const isJSON = (answer.headers.get("Content-Type") ?? "").startsWith("application/json");
  const value = answer.status === 304 || !isJSON ? null : await answer.json();
  return { status: answer.status, tag: answer.headers.get("ETag"), retry, value };
}
