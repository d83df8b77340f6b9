"use strict";
// The page to browse examples. Texts and names are anybody's: they enter as text, never as markup.
const KIND_OF_CELL = [3, 1, 0, 1, 1, 1, 0, 1, 2]; // rows: A right in every seed, in some, in none; columns: B
const KIND_NAMES = ["stable split", "coin flip", "both wrong", "both right"];
const CORNERS = { 0: [[0, -4.5], [4.5, 0], [0, 4.5], [-4.5, 0]], 2: [[0, -4], [4, 3], [-4, 3]] }; // else squares
const [TWO_RUNS, CHOICES] = ["two single runs", "select, [type=checkbox]"];
const LISTED = 30; // examples that are listed at once
const [SHORT, AROUND] = [260, 70]; // characters of a text that isn't open: in all, and on either side of a marked word

const $ = (id) => document.getElementById(id);
const form = $("choices");
const field = (name) => form.elements[name];
const count = (value) => value.toLocaleString("en");
const many = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const two = (p) => p.toFixed(2);
const letter = (s) => make("b", {}, "AB"[s]);

/** Make an element of properties, attributes and what is in it; strings become text. */
function make(tag, properties = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    name in made ? (made[name] = value) : made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}

// --- what the page knows ------------------------------------------------------------------------------------
let facts; // names, and a list for each fact of the examples
let probabilities; // a byte for each run and example
let whole; // places of the examples whose whole text is here
let lowered = []; // texts as they are searched

/** Unpack what was gzipped and written in base64. */
function unpacked(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
}

/** Ask for the texts that lie beside the page, once. */
function loadTexts() {
  if ($("texts")) return;
  const script = make("script", { id: "texts", src: "examples-texts.js" });
  script.onerror = () => $("covered").replaceChildren("The other texts aren't here: examples-texts.js has them.");
  $("covered").append(script);
}

/** Take the texts that lay beside the page: that file calls this. */
async function takeTexts(digest, packed) {
  if (digest !== facts.digest) return $("covered").replaceChildren("This examples-texts.js is another report's.");
  Object.assign(facts.text, await unpacked(packed).json());
  for (const i of facts.beside) whole.add(i);
  lowered = [];
  sayCovered();
  rows.forEach((fill) => fill());
  if (field("text").value) update();
}

// --- the pair -----------------------------------------------------------------------------------------------
let view; // the chosen pair, and what its two sides make of every example

const byte = (run, i) => probabilities[run * facts.id.length + i];
// The figure that the report shows, else the middle of what the byte stands for.
const probability = (run, i) => facts.exact[i]?.[run] ?? (byte(run, i) + 0.5) / 256;

/** Offer choices, and keep what was chosen if it is among them. */
function offer(name, titles) {
  const before = field(name).value;
  field(name).replaceChildren(...titles.map((title) => make("option", { value: title }, title)));
  field(name).value = titles.includes(before) ? before : titles[0];
}

/** Look up the chosen pair: its two sides with their runs, and what two seeds of each disagree on. */
function chosenPair() {
  const here = ({ division }) => division === field("division").value;
  const runs = facts.runs.filter(here).map(({ id }) => id);
  offer("compare", [...facts.pairs.filter(here).map(({ title }) => title), TWO_RUNS]);
  offer("a", runs);
  offer("b", [...runs.slice(1), runs[0]]); // another than A, where there is one
  const pair = facts.pairs.find((one) => here(one) && one.title === field("compare").value);
  if (pair) return pair;
  const sides = ["a", "b"].map((name) => facts.runs.find(({ id }) => id === field(name).value).side);
  return { alike: "backend and model", sides, single: true };
}

/** Compute what the two sides of a pair make of every example. */
function look(pair) {
  const n = facts.id.length;
  const list = () => new Float32Array(n);
  const found = { ...pair, cells: new Uint8Array(n), sizes: Array(9).fill(0), sure: list(), gap: list(), ordered: {} };
  found.sides = pair.sides.map((side) => ({ ...side, mean: list(), least: list(), most: list() }));
  for (let i = 0; i < n; i++) {
    found.sure[i] = 0.5;
    const [row, column] = found.sides.map(({ runs, mean, least, most }) => {
      let [sum, low, high, right] = [0, 1, 0, 0];
      for (const run of runs) {
        const p = probability(run, i);
        [sum, low, high] = [sum + p, Math.min(low, p), Math.max(high, p)];
        right += byte(run, i) >= 128 === (facts.label[i] === 1);
        found.sure[i] = Math.min(found.sure[i], Math.abs(p - 0.5));
      }
      [mean[i], least[i], most[i]] = [sum / runs.length, low, high];
      return right === runs.length ? 0 : right ? 1 : 2;
    });
    found.cells[i] = 3 * row + column;
    found.sizes[found.cells[i]]++;
    found.gap[i] = Math.abs(found.sides[0].mean[i] - found.sides[1].mean[i]);
  }
  found.several = found.sides.filter(({ runs }) => runs.length > 1).length;
  found.names = [found.several === 2 ? KIND_NAMES[0] : "split", ...KIND_NAMES.slice(1)];
  return found;
}

/** Show another pair: how much it disagrees, beside how much two equal models do, and who is right. */
function changePair() {
  view = look(chosenPair());
  const { alike, sides, sizes, single, several } = view;
  const n = facts.id.length;
  const share = percent(view.disagreement ?? (sizes[2] + sizes[6]) / n);
  const floor = sides.every(({ own }) => own !== null) && percent((sides[0].own + sides[1].own) / 2);
  const beside = floor ? `two seeds of one ${alike} on ${floor}` : `what two seeds of one ${alike} do isn't known`;
  const alone = single && sides[0].name === sides[1].name && "This is one run, so there is nothing to disagree with.";
  $("said").textContent = alone || `They disagree on ${share} of the examples; ${beside}.`;
  for (const [s, side] of sides.entries()) {
    const size = single ? "" : many(side.runs.length, "seed");
    $("sides").children[s].replaceChildren(letter(s), make("bdi", {}, side.name), size);
  }
  if (!several) $("kinds").querySelector(".several input").checked = false;
  document.body.className = [single ? "of-runs" : "", several ? "" : "one-seed"].join(" ");
  for (const button of $("outcomes").querySelectorAll("button")) {
    const size = sizes[button.value];
    button.lastElementChild.replaceChildren(make("b", {}, count(size)), ` ${percent(size / n)}`);
  }
  for (const [kind, label] of $("kinds").querySelectorAll("label").entries()) {
    const size = sizes.reduce((sum, one, cell) => sum + (KIND_OF_CELL[cell] === kind ? one : 0), 0);
    label.lastElementChild.replaceChildren(view.names[kind], make("b", {}, count(size)));
  }
  update();
}

// --- what is listed -----------------------------------------------------------------------------------------
let listed = []; // places of the examples that pass every filter, in order
let rows = []; // what fills in the text of an example in the list anew

const kindOf = (i) => KIND_OF_CELL[view.cells[i]];
const searched = (i) => (lowered[i] ??= `${facts.id[i]}\n${facts.text[i]}`.toLowerCase());

/** Give the tests that an example has to pass: one for each filter that is set. */
function filters() {
  const tests = [];
  const when = (name, test, set = field(name)) => set.value && !set.closest("[hidden]") && tests.push(test(set.value));
  const kinds = [...$("kinds").querySelectorAll(":checked")].map(({ value }) => KIND_NAMES.indexOf(value));
  if (kinds.length) tests.push((i) => kinds.includes(kindOf(i)));
  when("cell", (cell) => (i) => view.cells[i] === Number(cell));
  when("region", (region) => {
    const [left, bottom, right, top] = region.split(" ").map(Number);
    const [a, b] = view.sides.map(({ mean }) => mean);
    return (i) => a[i] >= left && a[i] <= right && b[i] >= bottom && b[i] <= top;
  });
  when("label", (label) => (i) => facts.label[i] === Number(label));
  when("cut", (cut) => (i) => facts.cut.has(i) === (cut === "yes"));
  when("from", (least) => (i) => facts.length[i] >= least);
  when("to", (most) => (i) => facts.length[i] <= most);
  when("least", (least) => (i) => facts.unknown[i] >= least);
  when("most", (most) => (i) => facts.unknown[i] <= most);
  if (field("marked").checked) tests.push((i) => view.sides.some(({ runs }) => wordsOf(i, runs)));
  const wanted = field("text").value.toLowerCase();
  when("text", (text) => (facts.id.includes(text) ? (i) => facts.id[i] === text : (i) => searched(i).includes(wanted)));
  return tests;
}

/** List what passes the filters, and mark it in the scatter. */
function update() {
  const tests = filters();
  const key = view[field("order").value]; // gap or sure; else by id
  const sorter = key ? (i, j) => key[j] - key[i] : (i, j) => (facts.id[i] < facts.id[j] ? -1 : 1);
  view.ordered[field("order").value] ??= [...facts.id.keys()].sort(sorter);
  listed = view.ordered[field("order").value].filter((i) => tests.every((test) => test(i)));
  $("count").textContent = `${count(listed.length)} of ${many(facts.id.length, "example")}`;
  $("clear").hidden = tests.length === 0;
  const chosen = field("cell").value;
  for (const button of $("outcomes").querySelectorAll("button")) button.ariaPressed = String(button.value === chosen);
  rows = [];
  $("list").replaceChildren();
  listMore();
  requestAnimationFrame(() => setTimeout(drawPoints)); // once the list is to be seen
  drawOver();
  writeHash();
}

function clear() {
  for (const name of ["cell", "region", "label", "cut", "from", "to", "least", "most", "text"]) field(name).value = "";
  for (const box of form.querySelectorAll(":checked[type=checkbox]")) box.checked = false;
  update();
}

function sayCovered() {
  const rest = facts.id.length - whole.size;
  const said = `Search reads ids and ${many(whole.size, "whole text")}; of ${count(rest)} more it reads a few words. `;
  const load = make("button", { type: "button", onclick: loadTexts }, "Load their texts");
  $("covered").replaceChildren(rest ? said : "", facts.beside.some((i) => !whole.has(i)) ? load : "");
}

// --- the list -----------------------------------------------------------------------------------------------
function listMore() {
  $("list").append(...listed.slice(rows.length, rows.length + LISTED).map(row));
  const left = listed.length - rows.length;
  $("more").hidden = left === 0;
  $("more").textContent = `Show ${Math.min(left, LISTED)} more of ${count(left)}`;
}

/** Show one example: what it is, what the seeds say, and its text. */
function row(i) {
  const id = facts.id[i];
  const button = make("button", { type: "button", className: "id" }, make("bdi", {}, id));
  const text = make("p", { className: "text", dir: "auto", lang: "" });
  const words = make("div", { className: "words" });
  const isOpen = () => field("open").value === id;
  const fill = () => {
    button.ariaExpanded = String(isOpen());
    writeText(text, i, isOpen());
    const known = view.sides.map(({ runs }, s) => [s, wordsOf(i, runs)]).filter(([, found]) => found && isOpen());
    const said = ([s, found]) => make("p", { className: "ab"[s] }, letter(s), " ", make("bdi", {}, found.said));
    words.replaceChildren(...known.map(said));
    if (isOpen() && !whole.has(i) && facts.beside.includes(i)) loadTexts();
  };
  button.onclick = () => {
    field("open").value = isOpen() ? "" : id;
    rows.forEach((fill) => fill());
    writeHash();
  };
  rows.push(fill);
  fill();
  const kind = make("span", { className: `kind${kindOf(i)}` }, make("i"), view.names[kindOf(i)]);
  const said = [`labelled ${facts.label[i] ? "positive" : "negative"}`];
  if (facts.length) said.push(many(facts.length[i], "token"), `${facts.unknown[i].toFixed(1)} % unknown`);
  if (facts.cut.has(i)) said.push("the models see its end only");
  const head = make("h2", {}, button, kind, make("span", { className: "facts" }, said.join(" · ")));
  return make("li", {}, head, ...view.sides.map((side, s) => seeds(side, s, i)), text, words);
}

/** Show what the seeds of a side say: a dot each on a line from 0 to 1. */
function seeds({ name, runs, mean, least, most }, s, i) {
  const values = runs.map((run) => probability(run, i));
  const each = `each seed: ${values.map(two).join(", ")}`;
  const line = make("span", { className: "line", role: "img", title: each, "aria-label": each });
  for (const p of values) line.appendChild(make("i")).style.left = `${100 * p}%`;
  const spread = runs.length > 1 ? ` (${two(least[i])} to ${two(most[i])})` : "";
  const said = make("span", { className: "number" }, make("b", {}, two(mean[i])), spread);
  return make("div", { className: `seeds ${"ab"[s]}` }, letter(s), make("bdi", {}, name), line, said);
}

/** Give what is known of an example's words for one of these runs. */
const wordsOf = (i, runs) => facts.words[i]?.[runs.find((run) => facts.words[i][run])];

/** Give the words of a text that are marked: where each begins and ends, and whom it moved. */
function marksOf(i) {
  const found = new Map();
  for (const [s, { runs }] of view.sides.entries()) {
    for (const [begin, end] of wordsOf(i, runs)?.marks ?? []) {
      found.set(begin, [begin, end, (found.get(begin)?.[2] ?? "") + "AB"[s]]);
    }
  }
  return [...found.values()].sort((one, other) => one[0] - other[0]);
}

/** Write a text; of one that isn't open the parts around marked words, or else its beginning or its end. */
function writeText(element, i, open) {
  const text = facts.text[i];
  const marks = whole.has(i) ? marksOf(i) : [];
  const around = marks.map(([begin, end]) => [begin - AROUND, end + AROUND]);
  const brief = facts.cut.has(i) ? [text.length - SHORT, text.length] : [0, SHORT];
  element.replaceChildren();
  let shown = 0;
  for (const [begin, end] of open ? [[0, text.length]] : around.length ? around : [brief]) {
    if (begin > shown) {
      shown = begin + 1 + text.slice(begin, begin + 30).indexOf(" "); // no word is cut
      element.append("… ");
    }
    for (const [from, to, by] of marks.filter(([from, to]) => from >= shown && to <= end)) {
      element.append(text.slice(shown, from), make("mark", { className: by, "data-by": by }, text.slice(from, to)));
      shown = to;
    }
    const space = text.slice(end - 30, end).lastIndexOf(" ");
    const last = end >= text.length ? text.length : space < 0 ? end : end - 30 + space;
    element.append(text.slice(shown, last));
    shown = last;
  }
  element.append(shown < text.length ? " … " : "", make("em", {}, open && !whole.has(i) ? "The rest isn't here." : ""));
}

// --- the scatter --------------------------------------------------------------------------------------------
const colour = (name) => getComputedStyle(document.body).getPropertyValue(`--${name}`);

/** Empty a canvas; give its pen and the length of its sides, which stand for probabilities from 0 to 1. */
function emptied(canvas) {
  const size = canvas.parentNode.clientWidth;
  canvas.width = canvas.height = size * devicePixelRatio;
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  return { pen, size };
}

/** Draw the dot of one example, in the shape of its kind; a square takes a third of the time of other shapes. */
function drawDot(pen, kind, x, y) {
  const half = kind === 1 ? 2 : 1.25;
  if (!CORNERS[kind]) return pen.fillRect(x - half, y - half, 2 * half, 2 * half);
  pen.beginPath();
  for (const [right, down] of CORNERS[kind]) pen.lineTo(x + right, y + down);
  pen.fill();
}

/** Draw every example: those that are listed in the colour of their kind, the rest pale below them. */
function drawPoints() {
  const { pen, size } = emptied($("points"));
  const [a, b] = view.sides.map(({ mean }) => mean);
  const strong = new Set(listed);
  const layers = Array.from({ length: 8 }, () => []);
  for (const i of facts.id.keys()) layers[(strong.has(i) ? 7 : 3) - kindOf(i)].push(i);
  for (const [layer, places] of layers.entries()) {
    pen.fillStyle = colour(layer < 4 ? "rule" : `kind${7 - layer}`);
    pen.globalAlpha = [0.85, 0.45, 0.85, 0.6][3 - (layer % 4)];
    for (const i of places) drawDot(pen, layer < 4 ? 1 : 7 - layer, a[i] * size, (1 - b[i]) * size);
  }
}

/** Draw what is chosen in the scatter: a region, and the seeds of one example as bars; say which it is. */
function drawOver(i, region = field("region").value) {
  const { pen, size } = emptied($("over"));
  pen.strokeStyle = pen.fillStyle = colour("ink");
  const [left, bottom, right, top] = region ? region.split(" ").map(Number) : [0, 0, 0, 0];
  if (region) pen.strokeRect(left * size, (1 - top) * size, (right - left) * size, (top - bottom) * size);
  const [a, b] = view.sides;
  const marked = `Listed: A ${two(left)} to ${two(right)}, B ${two(bottom)} to ${two(top)}.`;
  $("under").textContent = region ? marked : "Drag to list a part, click a dot to see its example.";
  if (i === undefined) return;
  pen.fillRect(a.least[i] * size - 1, (1 - b.mean[i]) * size - 1, (a.most[i] - a.least[i]) * size + 2, 2);
  pen.fillRect(a.mean[i] * size - 1, (1 - b.most[i]) * size - 1, 2, (b.most[i] - b.least[i]) * size + 2);
  $("under").textContent = `${facts.id[i]}: ${view.names[kindOf(i)]}, A ${two(a.mean[i])}, B ${two(b.mean[i])}.`;
}

/** Find the listed example whose dot is nearest, if it is near. */
function nearest([x, y]) {
  const [a, b] = view.sides.map(({ mean }) => mean);
  const far = (i) => Math.hypot(a[i] - x, b[i] - y);
  const best = listed.reduce((found, i) => (far(i) < far(found) ? i : found), listed[0]);
  return best !== undefined && far(best) < 0.03 ? best : undefined;
}

function watchScatter() { // dragging marks a part, a click chooses an example
  const canvas = $("over");
  const placeOf = ({ offsetX, offsetY }) => [offsetX / canvas.clientWidth, 1 - offsetY / canvas.clientWidth];
  let start = null;
  const dragged = (end) => {
    if (!start || Math.hypot(end[0] - start[0], end[1] - start[1]) < 0.02) return "";
    const corners = [Math.min, Math.max].flatMap((pick) => [0, 1].map((s) => pick(start[s], end[s])));
    return corners.map((p) => Math.min(1, Math.max(0, p)).toFixed(3)).join(" ");
  };
  canvas.onpointerdown = (event) => {
    start = placeOf(event);
    canvas.setPointerCapture(event.pointerId);
  };
  canvas.onpointermove = (event) => {
    const region = dragged(placeOf(event));
    drawOver(region ? undefined : nearest(placeOf(event)), region || undefined);
  };
  canvas.onpointerup = (event) => {
    const near = nearest(placeOf(event));
    if (dragged(placeOf(event)) || near === undefined) field("region").value = dragged(placeOf(event));
    else field("text").value = facts.id[near];
    start = null;
    update();
  };
  canvas.onpointerleave = canvas.onpointercancel = () => ((start = null), drawOver());
}

// --- the address, the file, the keys ------------------------------------------------------------------------
function writeHash() {
  history.replaceState(null, "", `#${new URLSearchParams([...new FormData(form)].filter(([, value]) => value))}`);
}

function readHash() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const element of form.elements) {
    if (element.name === "compare") chosenPair(); // what can be compared depends on the division
    if (element.type === "checkbox") element.checked = said.getAll(element.name).includes(element.value);
    else if (element.name) element.value = said.get(element.name) ?? "";
    if (element.selectedIndex === -1) element.selectedIndex = 0;
  }
  changePair();
}

/** Save what is listed as CSV. What a spreadsheet would take for a formula gets an apostrophe in front. */
function save() {
  const quoted = (value) => `"${String(value).replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const runs = [...new Set(view.sides.flatMap((side) => side.runs))];
  const names = ["example_id", "label", "kind", "mean_a", "mean_b", ...runs.map((run) => facts.runs[run].id), "text"];
  const lines = listed.map((i) => {
    const said = [...view.sides.map(({ mean }) => mean[i]), ...runs.map((run) => probability(run, i))];
    const known = [quoted(facts.id[i]), facts.label[i], view.names[kindOf(i)]];
    return [...known, ...said.map((p) => p.toFixed(4)), quoted(facts.text[i])].join(",");
  });
  const csv = new Blob([[names.map(quoted).join(","), ...lines, ""].join("\n")], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(csv), download: "examples.csv" });
  link.click();
  URL.revokeObjectURL(link.href);
}

function onKey(event) {
  const here = document.activeElement;
  if (event.ctrlKey || event.metaKey || event.altKey || here.matches("input, select")) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "/") field("text").focus();
  else if (step) {
    const at = [...$("list").children].indexOf(here.closest("li"));
    if (at === $("list").children.length - 1 && step > 0) listMore();
    $("list").children[Math.max(0, at + step)]?.querySelector("button").focus();
  } else return;
  event.preventDefault();
}

async function begin() {
  facts = await unpacked($("facts").textContent).json();
  probabilities = new Uint8Array(await unpacked($("probabilities").textContent).arrayBuffer());
  [whole, facts.cut] = [new Set(facts.inside), new Set(facts.cut)];
  document.title = $("title").textContent = `${facts.title} · ${many(facts.id.length, "test example")}`;
  offer("division", [...new Set(facts.runs.map(({ division }) => division))]);
  field("division").parentNode.hidden = field("division").length === 1;
  for (const part of form.querySelectorAll(".known")) part.hidden = !facts.length;
  form.querySelector(".marked").hidden = Object.keys(facts.words).length === 0;
  sayCovered();
  watchScatter();
  readHash();
  setTimeout(() => facts.id.forEach((_, i) => searched(i)), 200); // so that the first search is quick, too
  form.onchange = ({ target }) => (target.closest(".pair") ? changePair() : target.matches(CHOICES) && update());
  form.oninput = ({ target }) => target.matches(CHOICES) || update();
  $("outcomes").onclick = ({ target }) => {
    const cell = target.closest("button")?.value ?? "";
    field("cell").value = field("cell").value === cell ? "" : cell;
    update();
  };
  [$("clear").onclick, $("save").onclick, $("more").onclick] = [clear, save, listMore];
  [document.onkeydown, onhashchange] = [onKey, readHash];
  onresize = matchMedia("(prefers-color-scheme: dark)").onchange = () => (drawPoints(), drawOver());
}

begin().catch(({ message }) => ($("said").textContent = `This browser can't show the page: ${message}.`));
