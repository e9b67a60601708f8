"use strict";
// The data is untrusted: its texts become text nodes, or values of attributes that hold text, and nothing else.

const data = JSON.parse(document.getElementById("data").textContent);
const several = data.systems.length > 1;
const CHUNK = 100; // sentences that are added to the list at a time
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"; // base64: 64 levels of a weight from 0 to 1
const END = "</s>";
const UNSPACED = "[\\p{sc=Han}\\p{sc=Hira}\\p{sc=Kana}\\p{sc=Thai}\\p{sc=Lao}\\p{sc=Khmr}\\p{sc=Mymr}\u3000-\u303f\uff00-\uffef]";
const NO_SPACE = new RegExp(`(?<=${UNSPACED}) (?=${UNSPACED})`, "gu"); // a space between words of scripts without spaces

const byId = (id) => document.getElementById(id);
const [list, detail] = [byId("list"), byId("detail")];
const make = (tag, ...rest) => fill(document.createElement(tag), ...rest);
const draw = (tag, ...rest) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), ...rest);

function fill(element, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children); // strings become text nodes
  return element;
}

// --- list of sentences ---

const sentences = data.sentences.map(([source, reference, systems], index) => ({
  index,
  source,
  reference,
  text: textOf(source),
  systems: systems.map(([words, digits, bleu]) => ({ words, digits, bleu, text: textOf(words) })),
}));
let chosen = several ? [0, 1] : [0]; // the systems A and B
let order = []; // the sentences that match the search, in the order of the list
let current = null; // the selected sentence

function textOf(words) {
  const shown = words.at(-1) === END ? words.slice(0, -1) : words;
  return shown.join(" ").replace(NO_SPACE, "");
}

function find() {
  const fold = (text) => text.toLowerCase().normalize("NFC");
  const wanted = fold(byId("search").value.trim());
  const bleu = (one, side) => one.systems[chosen[side]].bleu;
  const key = {
    corpus: () => 0, // sorting is stable, so the order stays
    best: (one) => -bleu(one, 0),
    worst: (one) => bleu(one, 0),
    short: (one) => one.source.length,
    long: (one) => -one.source.length,
    apart: (one) => -Math.abs(bleu(one, 0) - bleu(one, 1)),
  }[byId("sort").value];
  const texts = (one) => [one.text, one.reference, ...chosen.map((system) => one.systems[system].text)];
  order = sentences.filter((one) => texts(one).some((text) => fold(text).includes(wanted)));
  order.sort((one, other) => key(one) - key(other));
  const [found, all] = [order.length, sentences.length].map((number) => number.toLocaleString("en"));
  byId("count").textContent = `${found} of ${all} sentence${sentences.length === 1 ? "" : "s"}`;
  list.replaceChildren();
  list.scrollTop = 0;
  extend(CHUNK);
  tabTo(list.children[order.indexOf(current)] ?? list.firstChild);
}

/** Extend the list to the first `number` sentences. */
function extend(number) {
  const drawn = list.children.length;
  const items = order.slice(drawn, Math.max(drawn, number)).map((one, place) => {
    const position = { "aria-setsize": order.length, "aria-posinset": drawn + place + 1 };
    const state = { tabindex: -1, "aria-selected": one === current, "data-sentence": one.index };
    return make(
      "div",
      { role: "option", ...position, ...state },
      make("span", { class: "index" }, String(one.index + 1)),
      make("span", { class: "text", dir: "auto" }, one.text || "(empty)"),
      ...chosen.map((system) => make("span", { class: "bleu" }, one.systems[system].bleu.toFixed(1))),
    );
  });
  list.append(...items);
}

/** Make this item the only one in the list that the Tab key reaches. */
function tabTo(item) {
  for (const other of list.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
  if (item) item.tabIndex = 0;
}

/** Show the sentence, and select it in the list and in the address. Returns its item in the list, or null. */
function select(one) {
  current = one;
  showDetail();
  address();
  const place = order.indexOf(one);
  if (place >= list.children.length) extend(place + CHUNK);
  for (const other of list.querySelectorAll("[aria-selected=true]")) other.setAttribute("aria-selected", false);
  const item = list.children[place];
  if (!item) return null;
  item.setAttribute("aria-selected", true);
  tabTo(item);
  const above = item.offsetTop - list.scrollTop;
  if (above < 0 || above + item.offsetHeight > list.clientHeight) {
    list.scrollTop = item.offsetTop - list.clientHeight / 2; // scrollIntoView would scroll the page too
  }
  return item;
}

/** Put the sentence and the systems into the address. Browsers refuse more than a few hundred changes in a row. */
function address() {
  const state = new URLSearchParams({ s: current.index + 1 });
  if (several) chosen.forEach((system, side) => state.set("ab"[side], system + 1));
  try {
    history.replaceState(null, "", `#${state}`);
  } catch {
    // the next change will be accepted
  }
}

/** Return the place in a row that a key leads to, or null. */
function step(event, place, length, back, on) {
  const places = { Home: 0, End: length - 1, [back]: Math.max(place - 1, 0), [on]: Math.min(place + 1, length - 1) };
  const to = places[event.key];
  if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return null;
  event.preventDefault();
  return to;
}

list.addEventListener("scroll", () => {
  if (list.scrollTop + 2 * list.clientHeight > list.scrollHeight) extend(list.children.length + CHUNK);
});
list.addEventListener("click", (event) => {
  const item = event.target.closest("[data-sentence]");
  if (!item) return;
  select(sentences[item.dataset.sentence]).focus({ preventScroll: true });
  if (detail.getBoundingClientRect().top > innerHeight / 2) detail.scrollIntoView(); // on a phone, the detail is below the list
});
list.addEventListener("keydown", (event) => {
  const here = order.indexOf(sentences[event.target.dataset.sentence]);
  const chooses = ["Enter", " "].includes(event.key) && !event.altKey && !event.ctrlKey && !event.metaKey;
  if (chooses) event.preventDefault();
  const place = chooses ? here : step(event, here, order.length, "ArrowUp", "ArrowDown");
  if (place !== null) select(order[place]).focus({ preventScroll: true });
});

// --- selected sentence ---

let view = { source: [], systems: [] }; // elements: source words, and {element, words, weights, readout} of each system
const percent = (weight) => `${Math.round(100 * weight)}\u202f%`;

function showDetail() {
  const source = wordRow("Source", current.source, "data-source");
  view = { source: source.querySelectorAll(".word"), systems: [] };
  detail.replaceChildren(
    make("h3", {}, `Sentence ${current.index + 1}`),
    make("p", { class: "label small" }, "Source"),
    source,
    make("p", { class: "label small" }, "Reference"),
    make("p", { class: "reference", dir: "auto" }, current.reference || "(empty)"),
    make("div", { class: "sides" }, ...chosen.map(sideOf)),
  );
  point(null);
}

function sideOf(system, side) {
  const { words, digits, bleu } = current.systems[system];
  const name = data.systems[system];
  const columns = current.source.length;
  const all = [...digits].map((digit) => DIGITS.indexOf(digit) / (DIGITS.length - 1));
  const weights = all.length ? words.map((_, row) => all.slice(row * columns, (row + 1) * columns)) : null;
  const row = wordRow(`Translation by ${name}`, words, "data-target");
  const readout = make("p", { class: "readout small", "aria-live": "polite" });
  const label = make("p", { class: "label" }, make("bdi", {}, name), make("span", { class: "bleu" }, `BLEU ${bleu.toFixed(1)}`));
  if (several) label.prepend(make("b", { class: "letter" }, "AB"[side]));
  const map = weights ? heatMap(name, words, weights) : make("p", { class: "small" }, "There are no weights to show.");
  const element = make("section", { class: "side", "aria-label": name }, label, row, readout, map);
  view.systems.push({ element, words: row.querySelectorAll(".word"), weights, readout });
  return element;
}

/** Return a row of words. The Tab key reaches one of them, and the arrow keys the others. */
function wordRow(label, words, attribute) {
  const row = make("div", { class: "words", role: "listbox", "aria-orientation": "horizontal", "aria-label": label, dir: "auto" });
  if (words.every((word) => word === END)) row.append(make("span", { class: "small" }, "(empty) "));
  words.forEach((word, place) => {
    const end = word === END && place === words.length - 1;
    const look = end ? { class: "word end", dir: "ltr" } : { class: "word" };
    row.append(make("span", { role: "option", tabindex: place ? -1 : 0, [attribute]: place, ...look }, word), " ");
  });
  row.addEventListener("keydown", (event) => {
    const items = [...row.querySelectorAll(".word")];
    const keys = ["ArrowLeft", "ArrowRight"];
    if (getComputedStyle(row).direction === "rtl") keys.reverse();
    const place = step(event, items.indexOf(event.target), items.length, ...keys);
    if (place === null) return;
    items.forEach((item, other) => (item.tabIndex = other === place ? 0 : -1));
    items[place].focus();
  });
  return row;
}

function heatMap(name, words, weights) {
  const label = (text, attributes) => make("th", attributes, make("span", { dir: "auto", title: text }, text));
  const head = current.source.map((word, source) => label(word, { scope: "col", "data-source": source }));
  const rows = words.map((word, target) => {
    const cells = weights[target].map((weight, source) => {
      const title = `${word} ← ${current.source[source]}: ${percent(weight)}`;
      const cell = make("td", { "data-target": target, "data-source": source, title });
      cell.style.setProperty("--weight", weight);
      return cell;
    });
    return make("tr", {}, label(word, { scope: "row", "data-target": target }), ...cells);
  });
  const table = make(
    "table",
    { class: current.source.length > 13 ? "heat dense" : "heat" },
    make("caption", {}, "A stronger colour is a larger weight"),
    make("thead", {}, make("tr", {}, make("td", { class: "corner" }), ...head)),
    make("tbody", {}, ...rows),
  );
  return make("div", { class: "scroll", role: "region", "aria-label": `Weights of ${name}`, tabindex: 0 }, table);
}

/** Highlight what belongs to a word or cell, and describe it in words. With null, remove all highlights. */
function point(element) {
  for (const one of detail.querySelectorAll(".lit, .marked, .row, .column")) {
    one.classList.remove("lit", "marked", "row", "column");
    one.style.removeProperty("--light");
  }
  for (const { readout, weights } of view.systems) readout.textContent = weights ? "Point at a word to see its weights." : "";
  if (!element) return;
  const { source, target } = element.dataset;
  const mark = (within, selector, line) => {
    for (const one of within.querySelectorAll(selector)) one.classList.add(one.matches(".word") ? "marked" : line);
  };
  if (source !== undefined) {
    mark(detail, `[data-source="${source}"]`, "column");
    for (const { words, weights, readout } of view.systems) {
      if (weights) light(words, weights.map((row) => row[source]), readout, current.source[source], "→");
    }
  }
  if (target !== undefined) {
    const { element: side, words, weights, readout } = view.systems.find((one) => one.element.contains(element));
    mark(side, `[data-target="${target}"]`, "row");
    if (weights) light(view.source, weights[target], readout, words[target].textContent, "←");
  }
}

/** Colour words by their weights. The largest weights are also written as text, for readers who do not see colours. */
function light(words, weights, readout, word, arrow) {
  words.forEach((one, place) => {
    one.style.setProperty("--light", weights[place]);
    one.classList.add("lit");
  });
  const greatest = [...weights.keys()].sort((one, other) => weights[other] - weights[one]).slice(0, 3);
  const seen = greatest.filter((place) => weights[place] >= 0.01);
  readout.replaceChildren(make("bdi", {}, word), ` ${arrow} ${seen.length ? "" : "nothing"}`);
  seen.forEach((place, rank) => {
    readout.append(rank ? ", " : "", make("bdi", {}, words[place].textContent), ` ${percent(weights[place])}`);
  });
}

const pointable = (element) => element.closest("#detail [data-source], #detail [data-target]");
const focused = () => pointable(document.activeElement);
detail.addEventListener("pointerover", (event) => point(pointable(event.target) ?? focused()));
detail.addEventListener("pointerleave", () => point(focused()));
detail.addEventListener("focusin", (event) => point(pointable(event.target)));
detail.addEventListener("focusout", () => point(null));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") point(null);
});

// --- charts ---

const [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT] = [56, 380, 10, 210, 400, 252]; // edges of the axes; size of the picture
const DASHES = ["none", "7 4", "2 3", "9 3 2 3"];
const MARKERS = [
  "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z", // circle
  "M-3-3h6v6h-6z", // square
  "M0-4l4 7h-8z", // triangle
  "M0-4.5l4.5 4.5l-4.5 4.5l-4.5-4.5z", // diamond
  "M-1-4h2v3h3v2h-3v3h-2v-3h-3v-2h3z", // plus
];
const NUM_COLOURS = 6;
const number = (value) =>
  value.toLocaleString("en", Math.abs(value) < 100 ? { maximumSignificantDigits: 4 } : { maximumFractionDigits: 1 });

/** Return up to seven round numbers that enclose all values. */
function ticksOf(values) {
  let [low, high] = [Math.min, Math.max].map((extreme) => values.reduce((one, other) => extreme(one, other)));
  if (low === high) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  const power = 10 ** Math.floor(Math.log10((high - low) / 5));
  const least = values.every(Number.isInteger) ? 1 : 0; // no tick at epoch 1.5
  const size = Math.max(least, power * [1, 2, 5, 10].find((factor) => (high - low) / (power * factor) <= 5));
  const first = Math.floor(low / size + 1e-9);
  const last = Math.ceil(high / size - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, place) => (first + place) * size);
}

function chartOf({ title, x_label, y_label, lines }) {
  const caption = make("figcaption", { class: "title", dir: "auto" }, title);
  const points = lines.flatMap((line) => line.points);
  if (!points.length) return make("figure", {}, caption, "There are no points to draw.");
  const [xs, ys] = [0, 1].map((axis) => ticksOf(points.map((point) => point[axis])));
  const scale = (ticks, from, to) => (value) => from + ((value - ticks[0]) / (ticks.at(-1) - ticks[0])) * (to - from);
  const [x, y] = [scale(xs, LEFT, RIGHT), scale(ys, BOTTOM, TOP)];
  const picture = draw(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}; a table of its numbers follows` },
    draw("title", {}, title),
    draw("desc", {}, `${y_label} over ${x_label}: ${lines.map((line) => line.name).join(", ")}`),
    ...ys.map((tick) => draw("path", { class: "grid", d: `M${LEFT} ${y(tick)}H${RIGHT}` })),
    ...ys.map((tick) => draw("text", { x: LEFT - 7, y: y(tick) + 4, class: "end" }, number(tick))),
    draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` }),
    ...xs.map((tick) => draw("path", { class: "axis", d: `M${x(tick)} ${BOTTOM}v4` })),
    ...xs.map((tick) => draw("text", { x: x(tick), y: BOTTOM + 17 }, number(tick))),
    draw("text", { x: (LEFT + RIGHT) / 2, y: HEIGHT - 6, class: "name" }, x_label),
    draw("text", { transform: `translate(13 ${(TOP + BOTTOM) / 2}) rotate(-90)`, class: "name" }, y_label),
    ...lines.map((line, index) => lineOf(index, line.points.map(([one, other]) => [x(one), y(other)]))),
  );
  const legend = lines.map((line, index) => {
    const sample = draw("svg", { viewBox: "0 0 34 12", "aria-hidden": true }, lineOf(index, [[1, 6], [17, 6], [33, 6]]));
    return make("li", {}, sample, make("bdi", {}, line.name));
  });
  const numbers = make("div", { class: "scroll", tabindex: 0 }, numbersOf(x_label, y_label, lines));
  const table = make("details", {}, make("summary", { class: "small" }, "Numbers"), numbers);
  return make("figure", {}, caption, picture, make("ul", { class: "legend small" }, ...legend), table);
}

/** Return a line. Lines differ in colour, in dashes and in the shape of their markers. */
function lineOf(index, points) {
  const marker = { class: "marker", d: MARKERS[index % MARKERS.length] };
  const every = Math.ceil(points.length / 24);
  const marked = points.filter((_, place) => place % every === 0);
  return draw(
    "g",
    { class: `line colour-${index % NUM_COLOURS}` },
    draw("polyline", { points: points.join(" "), "stroke-dasharray": DASHES[index % DASHES.length] }),
    ...marked.map(([x, y]) => draw("path", { ...marker, transform: `translate(${x} ${y})` })),
  );
}

function numbersOf(x_label, y_label, lines) {
  const columns = lines.map((line) => new Map(line.points));
  const xs = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort((one, other) => one - other);
  const cell = (tag, text, attributes = {}) => make(tag, { class: "number", ...attributes }, make("bdi", {}, text));
  const head = [x_label, ...lines.map((line) => line.name)].map((name) => cell("th", name, { scope: "col" }));
  const rows = xs.map((x) => {
    const values = columns.map((column) => cell("td", column.has(x) ? number(column.get(x)) : ""));
    return make("tr", {}, cell("th", number(x), { scope: "row" }), ...values);
  });
  const body = make("tbody", {}, ...rows);
  return make("table", {}, make("caption", {}, y_label), make("thead", {}, make("tr", {}, ...head)), body);
}

// --- start ---

const selects = several ? [byId("a"), byId("b")] : [];

/** Take the sentence and the systems from the address, `#s=17&a=1&b=2`. A part that is missing stays as it is. */
function follow() {
  const state = new URLSearchParams(location.hash.slice(1));
  const at = (key, many) => (many[state.get(key) - 1] === undefined ? null : state.get(key) - 1);
  selects.forEach((box, side) => {
    chosen[side] = at("ab"[side], data.systems) ?? chosen[side];
    box.value = chosen[side];
  });
  find();
  const one = sentences[at("s", sentences) ?? current?.index ?? 0];
  if (one) select(one);
}

selects.forEach((box, side) => {
  box.append(...data.systems.map((name, system) => make("option", { value: system }, name)));
  box.addEventListener("change", () => {
    chosen[side] = Number(box.value);
    find();
    if (current) select(current);
  });
});
byId("search").addEventListener("input", find);
byId("sort").addEventListener("change", find);
byId("charts").append(...data.charts.map(chartOf));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address keeps the sentence
  byId("browser").focus();
});
addEventListener("hashchange", follow);
follow();
