// What the pages of the book do by themselves: theme, menu, search, and widgets that need no kernel.
"use strict";

const page = document.documentElement;
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// ---- light and dark; a page opened as a file may not be allowed to remember
const keep = (theme) => { try { localStorage.setItem("theme", theme); } catch { /* then until the next page */ } };
find("#book-theme").addEventListener("click", () => {
  page.dataset.theme = page.dataset.theme === "dark" ? "light" : "dark";
  keep(page.dataset.theme);
});

// ---- the list of chapters on a narrow page
const menu = find("#book-menu");
const showMenu = (shown) => {
  menu.setAttribute("aria-expanded", shown);
  find("#book-chapters").classList.toggle("shown", shown);
};
menu.addEventListener("click", () => showMenu(menu.getAttribute("aria-expanded") !== "true"));

// ---- search: the words of all sections come as a script, since a page opened as a file may fetch nothing
const [input, results] = [find("#book-search input"), find("#book-results")];
const [status, list] = [find("[role=status]", results), find("ol", results)];
let sections = null;
const BEGIN = 6; // letters of a word

function load() {
  if (sections) return;
  sections = [];
  loaded(find("#book-search").dataset.index).then(() => { sections = window.bookSections.map(prepared); search(); });
}

// Words as the search compares them: hyphens and American spelling make no difference.
const plain = (text) => text.toLowerCase().replace(/[-‐‑]/g, "").replace(/colour/g, "color").replace(/is(?=(e|ed|es|er|ing|ation)(?![a-z]))/g, "iz");
const prepared = ([address, chapter, title, text]) =>
  ({ address, chapter, title, text, head: plain(`${chapter} ${title}`), name: plain(title), body: plain(text) });
const count = (text, word) => text.split(word).length - 1;

// How well a section fits: every word must occur; in a title it counts most, at the beginning of a word more. What is called
// by these words alone, as many terms of the index are, comes first.
function fit({ head, name, body }, words) {
  let sum = name === words.join(" ") ? 50 : words.every((word) => ` ${name}`.includes(` ${word}`)) ? 12 : 0;
  for (const word of words) {
    const [inHead, inBody] = [count(head, word), count(body, word)];
    if (!inHead && !inBody) return 0;
    sum += 12 * Math.min(inHead, 1) + Math.log1p(inBody) + Math.log1p(count(` ${body}`, ` ${word}`));
  }
  return sum;
}

function around(text, word) {
  const letters = [...word].map((letter) => (letter === "z" ? "[sz]" : letter.replace(/\W/, "\\$&")));
  const found = new RegExp(letters.join("[-‐‑]?").replace("o[-‐‑]?r", "o[-‐‑]?u?r"), "i").exec(text);
  const [at, marked] = [found?.index ?? 0, found?.[0] ?? ""];
  const [from, end] = [Math.max(0, at - 50), at + marked.length];
  return [from ? "… " : "", text.slice(from, at), make("mark", {}, marked), text.slice(end, at + 110), " …"];
}

function search() {
  const words = plain(input.value).split(/\s+/).filter(Boolean);
  results.hidden = !words.length;
  if (!words.length || !sections.length) return;
  const found = best(words);
  status.textContent = `${results.dataset.found}: ${found.length}`;
  const root = find("#book-search").dataset.root;
  list.replaceChildren(...found.slice(0, 12).map(([, { address, chapter, title, text }]) => make("li", {},
    make("a", { href: root + address }, `${chapter.slice(0, 2)} · ${title}`), make("p", {}, ...around(text, words[0])))));
}

// The sections that fit, best first; if none does, those with words that only begin alike: quantization, quantise.
function best(words) {
  const found = sections.map((one) => [fit(one, words), one]).filter(([points]) => points).sort(([a], [b]) => b - a);
  const begun = words.map((word) => word.slice(0, BEGIN));
  return found.length || String(begun) === String(words) ? found : best(begun);
}

input.addEventListener("focus", load);
input.addEventListener("input", () => { load(); search(); });
find("#book-search").addEventListener("submit", (event) => { event.preventDefault(); find("a", list)?.click(); });
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "/" && !typing) { event.preventDefault(); input.focus(); }
  if (event.key === "Escape") { results.hidden = true; showMenu(false); }
});
list.addEventListener("click", () => { results.hidden = true; });
document.addEventListener("click", (event) => { if (!event.target.closest("#book-search, #book-results")) results.hidden = true; });

// ---- what is wider than its place can be scrolled by keys as well
const scrollers = new ResizeObserver((seen) => {
  for (const { target } of seen) {
    const wide = target.scrollWidth > target.clientWidth;
    if (wide) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
all("pre, .scroll, .drawing, .card").forEach((element) => scrollers.observe(element));

// ---- copy code
all("pre.code").forEach((block) => {
  const { copy, copied } = page.dataset;
  const button = make("button", { type: "button", className: "copy" }, copy);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(find("code", block).textContent);
    button.textContent = copied;
    setTimeout(() => { button.textContent = copy; }, 1500);
  });
  block.before(button);
});

// ---- which part of the page one reads
const marks = new Map(all("#book-here a").map((link) => [decodeURIComponent(link.hash.slice(1)), link]));
const reading = new IntersectionObserver((seen) => {
  const at = seen.filter(({ isIntersecting }) => isIntersecting).at(-1);
  if (!at) return;
  marks.forEach((link, anchor) => link.classList.toggle("reading", anchor === at.target.id));
}, { rootMargin: "0px 0px -70% 0px" });
marks.forEach((_, anchor) => { const heading = document.getElementById(anchor); if (heading) reading.observe(heading); });

// ---- widgets: what they need of a front end, with the data that stand in the page (tools/book/widgets.py)
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function unpacked(text) {
  const stream = new Blob([fromBase64(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(stream).arrayBuffer();
  const length = new DataView(data).getUint32(0, true);
  const { state, buffers, recorded } = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let start = 4 + length;
  for (const [path, size] of buffers) {
    const place = path.slice(0, -1).reduce((part, key) => (part[key] ??= {}), state);
    place[path.at(-1)] = new DataView(data, start, size);
    start += size;
  }
  return { state, recorded };
}

// A model as anywidget hands it to a widget. A trait whose changes were recorded changes others, as the kernel would.
class Model {
  constructor({ state, recorded }) {
    Object.assign(this, { state, recorded, handlers: {} });
  }

  get(name) { return this.state[name]; }

  set(name, value) {
    this.state[name] = value;
    const changes = this.recorded[name]?.[value] ?? {};
    for (const [trait, now] of Object.entries(changes)) this.state[trait] = now?.base64 === undefined ? now : fromBase64(now.base64);
    [name, ...Object.keys(changes)].forEach((trait) => (this.handlers[`change:${trait}`] ?? []).forEach((handler) => handler()));
  }

  save_changes() { /* there is nobody to tell */ }

  send() { throw new Error("no kernel"); }

  on(event, handler) { (this.handlers[event] ??= []).push(handler); }

  off(event, handler) { this.handlers[event] = (this.handlers[event] ?? []).filter((other) => other !== handler); }
}

// The playground's model, which is asked in the page: by a worker, so that the page stays quick. It answers a state as the
// kernel would (widgets/playground.py), but judges only what was judged before.
class SpokenModel extends Model {
  constructor(data) {
    super(data);
    const { speaker, ...rest } = this.state;
    Object.assign(this, { state: rest, truths: speaker.truths, words: speaker.outside, worker: workerOf(speaker) });
  }

  async save_changes() {
    const { state, world, blobs } = this.state;
    const { number, question, things, given } = state;
    const start = performance.now();
    const other = (number + 1) % world.scenes.length;
    const pixels = bookScene(world, blobs, number, things);
    const input = { scene: pixels, grey: pixels.slice().fill(128), swapped: bookScene(world, blobs, other, world.scenes[other].things) }[given];
    const said = await this.worker({ input, question });
    const untouched = String(things) === String(world.scenes[number].things);
    const truth = untouched ? this.truths[number][question] ?? null : null;
    const right = (text) => Boolean(truth) && plainWords(text) === plainWords(truth);
    const largest = Math.max(0, ...said.attention);
    Object.assign(this.state, { pixels, model_input: input, attention: Uint8Array.from(said.attention, (it) => Math.round((255 * it) / largest)) });
    const side = Math.sqrt(said.attention.length);
    this.state.answer = { by: state.by, turn: state.turn, question, error: "", answer: said.answer, right: right(said.answer), truth,
      caption: said.caption, choices: said.choices.map(({ text, p }) => ({ text, p, right: right(text) })), grid: [side, side], largest,
      share: said.attention.reduce((sum, it) => sum + it, 0), outside: bookOutside(world, this.words, things), milliseconds: Math.round(performance.now() - start), model: 0,
      all: [{ text: said.answer, right: right(said.answer) }] };
    (this.handlers["change:answer"] ?? []).forEach((handler) => handler());
  }
}

const plainWords = (text) => text.toLowerCase().replace(/[. ]+$/, "").split(/\s+/).join(" ");

// Asks a worker that is made from the text of speaker.js; nothing is answered to an empty question.
function workerOf(speaker) {
  const source = `${window.bookSpeaker}
    let it = null;
    onmessage = ({ data: { speaker, number, input, question } }) => {
      if (speaker) { it = bookSpeaker(speaker); return; }
      const said = question.trim() ? it.answer(input, question) : { answer: "", choices: [], attention: [] };
      postMessage({ number, said: { ...said, caption: it.caption(input) } });
    };`;
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  worker.postMessage({ speaker });
  const waiting = new Map();
  worker.onmessage = ({ data: { number, said } }) => { waiting.get(number)(said); waiting.delete(number); };
  let asked = 0;
  return ({ input, question }) => new Promise((resolve) => {
    waiting.set(++asked, resolve);
    worker.postMessage({ number: asked, input, question });
  });
}

const loaded = (src) => new Promise((resolve, reject) => {
  const script = make("script", { src });
  script.addEventListener("load", resolve);
  script.addEventListener("error", () => reject(new Error(`${src} is not there`)));
  document.head.append(script);
});

async function show(el) {
  const { widget, state } = el.dataset;
  if (el.dataset.begun) return;
  el.dataset.begun = "true";
  await loaded(`${page.dataset.root}static/data/${state}.js`);
  const data = await unpacked(window.vlmData[state]);
  const model = data.state.speaker ? new SpokenModel(data) : new Model(data);
  window.vlmWidgets[widget]({ model, el });
}

const near = new IntersectionObserver((seen) => seen.forEach(({ isIntersecting, target }) => {
  if (!isIntersecting) return;
  near.unobserve(target);
  show(target);
}), { rootMargin: "1000px" });
all("[data-widget]").forEach((el) => near.observe(el));

// For who wants all of a page at once: before it is printed, and tools/read_book.py
window.bookShowAll = () => {
  const pictures = all("img").map((picture) => {
    picture.loading = "eager";
    return picture.decode().catch(() => { throw new Error(`${picture.src} does not show`); });
  });
  return Promise.all([...pictures, ...all("[data-widget]").map(show)]);
};
window.addEventListener("beforeprint", window.bookShowAll);
page.dataset.ready = "true";
