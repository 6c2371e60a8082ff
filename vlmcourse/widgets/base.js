// The shared half of every widget; base.py puts it before the widget's own file, so it imports nothing.

// What anywidget calls for every view. The widget's own file has `build`, which makes the elements below `root`; `draw` shows
// the present state in them, `heard` says what to do on which event of the model, `stop` ends what else runs.
function render({ model, el }) {
  const { root, draw, heard = {}, stop = () => {} } = build(model);
  el.append(root);
  draw();
  for (const [event, handler] of Object.entries(heard)) model.on(event, handler);
  return () => {
    stop();
    for (const [event, handler] of Object.entries(heard)) model.off(event, handler);
  };
}

export default { render };

// The course's colours as in base.py; GREY reads on light and dark.
const [IMAGE, TEXT, ACCENT, INK, GREY] = ["#E69F00", "#0072B2", "#D55E00", "#1f2933", "#7b8794"];

// An element; text children become text nodes, so no label is ever read as HTML.
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// The root of a widget. Plain keys end here: further up, JupyterLab would move to another cell or copy one.
const frame = (name, label, ...children) =>
  h("div", { className: `vlm vlm-${name}`, role: "group", "aria-label": label,
    onkeydown: (event) => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); } }, ...children);

const div = (className, ...children) => h("div", { className }, ...children);
const when = (shown, ...elements) => (shown ? elements : []);
const says = (className = "") => h("div", { className, role: "status" }); // read aloud when its text changes
const button = (content, onclick, more = {}) => h("button", { type: "button", className: "vlm-button", onclick, ...more }, content);
const labelled = (text, control) => h("label", { className: "vlm-label" }, h("span", {}, text), control);
const slider = (max, oninput, more = {}) => h("input", { type: "range", min: 0, max, oninput, ...more });
const choice = (values, onchange) => h("select", { onchange }, ...values.map(([value, text]) => h("option", { value }, text)));

// What the pointer is over: `hover(place)` keeps it as `hover.place`, null for nothing, and shows it with `read`.
function hovering(read) {
  const hover = (place) => { hover.place = place; read(); };
  hover.place = null;
  return hover;
}

const pointed = (hover, place) => ({ onpointerenter: () => hover(place), onpointerleave: () => hover(null) });

// What signs mean: a letter, or a sample of a look, and its words.
const legend = (...entries) => div("vlm-legend", ...entries.map(([sign, words]) => h("span", {}, sign, ` ${words}`)));
const sign = (letter, colour = ACCENT) => h("i", { style: `color: ${colour}` }, letter);
const sample = (look) => h("span", { className: `vlm-sample ${look}` });

// A bar that is filled to a share, 0 to 1.
function meter() {
  const filled = div("vlm-filled");
  return { element: div("vlm-meter", filled), fill: (share) => { filled.style.width = `${100 * share}%`; } };
}

// Fills a table with rows of a name and its values.
const tabulate = (table, rows) =>
  table.replaceChildren(...rows.flatMap(([name, ...values]) => [h("span", {}, name), ...values.map((value) => h("b", {}, value))]));

// Of some items, one is chosen; it is the one that Tab leads to.
const press = (items, chosen) => items.forEach((item, i) => {
  item.setAttribute("aria-pressed", i === chosen);
  item.tabIndex = i === chosen ? 0 : -1;
});

// A token as one can see it: spaces and line ends as signs.
const visible = (token) => (token.trim() ? token : token.replaceAll(" ", "␣").replaceAll("\n", "⏎") || "∅");

// Front ends hand bytes over as DataView or ArrayBuffer.
const bytes = (data) => (data.buffer ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data));

const floats = (data) => new Float32Array(bytes(data).slice().buffer); // a copy, since floats start at a multiple of four

// Whether the kernel could be told; when it is gone, sending throws and the widget lives on with what it has.
function told(send) {
  try {
    send();
    return true;
  } catch {
    return false;
  }
}

// Sets a trait here and in the kernel; whether the kernel could be told.
const remember = (model, name, value) => {
  model.set(name, value);
  return told(() => model.save_changes());
};

const WAITING = "Asking the kernel; if nothing comes, it is busy or gone.";

// What is shown now. `go` changes a part of it, draws, and tells the kernel once it has rested for 100 ms, so that moving about
// is not slowed down; `heard` takes what Python has set.
function viewer(model, draw) {
  const view = { ...model.get("view") };
  let saving = null;
  const go = (change, show = draw) => {
    Object.assign(view, change);
    show();
    clearTimeout(saving);
    saving = setTimeout(() => remember(model, "view", { ...view }), 100);
  };
  const heard = {
    "change:view": () => {
      if (JSON.stringify(view) === JSON.stringify(model.get("view"))) return; // our own: drawing again would drop what is pointed at
      Object.assign(view, model.get("view"));
      draw();
    },
  };
  return { view, go, heard };
}

const PATIENCE_MS = 5000; // a request without an answer for so long no longer holds up the next
const LATE_MS = 1500; // then one is told that the kernel is being waited for

// Asks the kernel about a state (base.py, AskedWidget), one request at a time, always the newest: what changes while the kernel
// answers goes with the next request, so that nothing ever queues. `now` is the state, `set` changes a part of it. `adopted` is
// called with the state before when Python or another view has set one. `heard` takes the events; `news` tells how it stands.
function requests(model, draw, adopted = () => {}) {
  const me = Math.random().toString(36).slice(2); // one model may have several views
  const now = { ...model.get("state") };
  let [underway, sent, took, reached, late, line] = [null, 0, null, true, null, ""];
  const said = () => model.get("answer");
  const answered = () => said().by === now.by && said().turn === now.turn;

  function set(change) {
    Object.assign(now, change, { by: me, turn: now.turn + 1 });
    send();
    draw();
  }

  function send() {
    if (answered() || (underway !== null && performance.now() - sent < PATIENCE_MS)) return;
    const held = model.get("state"); // what Python set, but an older request of this page reached the kernel after it
    if (held.by === now.by && held.turn === now.turn) Object.assign(now, { by: me, turn: now.turn + 1 });
    [underway, sent] = [now.turn, performance.now()];
    reached = remember(model, "state", { ...now });
    if (!reached) underway = null;
    clearTimeout(late);
    late = setTimeout(draw, LATE_MS);
  }

  function arrived() {
    const { by, turn } = said();
    if (by === me && turn === underway) [underway, took] = [null, performance.now() - sent];
    send();
    draw();
  }

  function adopt() {
    const state = model.get("state");
    if (state.by === me) return;
    const before = { ...now };
    Object.assign(now, state);
    [underway, took] = [null, null];
    adopted(before);
    draw();
  }

  function news() {
    if (answered()) line = took === null ? "" : `Updated in ${Math.round(took)} ms; the model took ${said().milliseconds} of them`;
    else if (!reached) line = "The kernel is gone; you can go on editing, the last answer stays.";
    else if (performance.now() - sent > LATE_MS - 50) line = WAITING;
    return line;
  }

  return { now, said, answered, set, news, heard: { "change:answer": arrived, "change:state": adopt }, stop: () => clearTimeout(late) };
}

const percent = (p) => (p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`);

// Play, a slider and the name of the place: moves view[axis] from 0 to `last`; a frame waits until `ready`.
function playback({ axis, label, last, frame, name, ready = () => true }, view, go) {
  let timer = null;
  const time = slider(last, () => { go({ [axis]: +time.value }); stop(); });
  const output = h("output");
  const play = button("Play", () => (timer ? stop() : start()));

  function start() {
    if (view[axis] === last) go({ [axis]: 0 });
    timer = setInterval(() => {
      if (!ready()) return;
      go({ [axis]: Math.min(view[axis] + 1, last) });
      if (view[axis] === last) stop();
    }, frame);
    show();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    show();
  }

  function show() {
    output.textContent = name(view[axis]);
    [time.value, time.ariaValueText, play.textContent] = [view[axis], output.textContent, timer ? "Pause" : "Play"];
  }

  return { show, stop, controls: [play, labelled(label, time), output] };
}

// A box to type in, and buttons that type for you. `ask` gets the text once typing rests, at Enter, and from a button.
function asking({ placeholder, label, ask, typed = () => {} }) {
  const REST_MS = 120;
  let typing = null;
  const input = h("input", { type: "search", className: "vlm-search-box", placeholder, "aria-label": label, spellcheck: false,
    oninput: () => { clearTimeout(typing); typing = setTimeout(now, REST_MS); typed(); },
    onkeydown: (event) => { if (event.key === "Enter") now(); } });
  const suggestion = (text) => button(text, () => { input.value = text; now(); }, { className: "vlm-suggestion" });

  function stop() {
    clearTimeout(typing);
    typing = null;
  }

  function now() {
    stop();
    ask(input.value);
  }

  return { input, suggestion, stop, typing: () => typing !== null };
}

// Blobs by name: those sent with the widget, and the last few fetched from the kernel.
class Store {
  static LIMIT = 8_000_000; // bytes of fetched blobs

  constructor(model, arrived) {
    Object.assign(this, { model, fetched: new Map(), asked: new Set(), size: 0 });
    this.receive = (message, buffers) => {
      if (!message.have || !this.asked.delete(message.have)) return;
      const data = bytes(buffers[0]);
      this.fetched.set(message.have, data);
      this.size += data.length;
      for (const [name, old] of this.fetched) {
        if (this.size <= Store.LIMIT || name === message.have) break;
        this.fetched.delete(name);
        this.size -= old.length;
      }
      arrived();
    };
  }

  peek(name) {
    const sent = this.model.get("blobs")[name];
    return sent ? bytes(sent) : null;
  }

  // The blob, or null and `arrived` is called when it is there.
  get(name) {
    const data = this.peek(name) ?? this.fetched.get(name) ?? null;
    if (this.fetched.delete(name)) this.fetched.set(name, data); // a Map keeps order: last used last
    else if (!data && !this.asked.has(name) && told(() => this.model.send({ want: name }))) this.asked.add(name);
    return data;
  }
}

// The pen of a canvas that is this large on the screen, as sharp as the screen.
function sharpPen(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

// A line through points [x, y].
function stroke(pen, points) {
  pen.beginPath();
  for (const point of points) pen.lineTo(...point);
  pen.stroke();
}

// RGB bytes (height, width, 3) onto a canvas.
function paint(canvas, rgb, height, width) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0, j = 0; j < image.data.length; i += 3, j += 4) {
    image.data[j] = rgb[i];
    image.data[j + 1] = rgb[i + 1];
    image.data[j + 2] = rgb[i + 2];
    image.data[j + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// Shows small pictures in crisp squares and large ones smoothly; `side` is the longer side on screen.
function fit(canvas, height, width, side) {
  const zoom = side / Math.max(height, width);
  Object.assign(canvas.style, { width: `${width * zoom}px`, height: `${height * zoom}px`, imageRendering: zoom >= 2.5 ? "pixelated" : "auto" });
  return canvas;
}

// Lays an element over a part of its picture; all numbers are fractions of the picture.
function lay(element, left, top, width, height) {
  Object.assign(element.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%` });
  return element;
}

const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const count = (n) => [...Array(n).keys()];

// Where an arrow key leads from `place` in a grid of [rows, columns]; null for any other key.
function arrowed(event, place, grid) {
  const step = ARROWS[event.key];
  if (!step) return null;
  event.preventDefault();
  return place.map((at, axis) => clamp(at + step[axis], 0, grid[axis] - 1));
}

// What keys do in a row of elements, or in rows of `columns`: arrows, Home and End choose another one, which gets the focus.
const walking = (elements, at, choose, columns = Infinity) => (event) => {
  const [here, last] = [at(), elements().length - 1];
  const to = { Home: 0, End: last, ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - columns, ArrowDown: here + columns }[event.key];
  if (to === undefined || Math.abs(to) === Infinity) return;
  event.preventDefault();
  choose(clamp(to, 0, last));
  elements()[clamp(to, 0, last)].focus();
};

// The cell [row, column] of an element divided into a grid on which an event happened.
function cellAt({ clientX, clientY }, element, grid) {
  const box = element.getBoundingClientRect();
  const part = [(clientY - box.top) / box.height, (clientX - box.left) / box.width];
  return part.map((share, axis) => clamp(Math.floor(share * grid[axis]), 0, grid[axis] - 1));
}

// Lays an element over a cell.
const layCell = (element, [row, column], [rows, columns]) => lay(element, column / columns, row / rows, 1 / columns, 1 / rows);

// Cells are counted row by row.
const cellOf = ([row, column], [, columns]) => row * columns + column;
const placeOf = (cell, [, columns]) => [Math.floor(cell / columns), cell % columns];
const placeName = ([row, column]) => `row ${row}, column ${column}`;
