// The shared half of every widget; base.py puts it before the widget's own file, so it imports and exports nothing.

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

const button = (text, onclick, more = {}) => h("button", { type: "button", className: "vlm-button", onclick, ...more }, text);
const labelled = (text, control) => h("label", { className: "vlm-label" }, h("span", {}, text), control);
const choice = (values, onchange) =>
  h("select", { onchange }, ...values.map(([value, text]) => h("option", { value }, text)));

const options = (names) => names.map((name) => [name, String(name)]);

// A token as one can see it: spaces and line ends as signs.
const visible = (token) => (token.trim() ? token : token.replaceAll(" ", "␣").replaceAll("\n", "⏎") || "∅");

// Front ends hand bytes over as DataView or ArrayBuffer.
const bytes = (data) => (data.buffer ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data));

const floats = (data) => new Float32Array(bytes(data).slice().buffer); // a copy, since floats start at a multiple of four

// Subscribes to the model and returns what ends the subscriptions, as anywidget wants it from render.
function subscribe(model, handlers) {
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  return () => Object.entries(handlers).forEach(([event, handler]) => model.off(event, handler));
}

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

// Tells the kernel a trait once it has rested for 100 ms, so that moving about is not slowed down.
function keeper(model, name) {
  let saving = null;
  return (value) => {
    clearTimeout(saving);
    saving = setTimeout(() => remember(model, name, value), 100);
  };
}

// What is shown now. `go` changes a part of it, draws and tells the kernel; `heard` takes what Python has set.
function viewer(model, draw) {
  const view = { ...model.get("view") };
  const keep = keeper(model, "view");
  const go = (change, show = draw) => {
    Object.assign(view, change);
    show();
    keep({ ...view });
  };
  const heard = { "change:view": () => { Object.assign(view, model.get("view")); draw(); } };
  return { view, go, heard };
}

// Play, a slider and the name of the place: moves view[axis] from `first` to `last`; a frame waits until `ready`.
function playback({ axis, label, first = 0, last, frame, name, ready = () => true }, view, go) {
  let timer = null;
  const time = h("input", { type: "range", min: 0, max: last, oninput: () => { go({ [axis]: +time.value }); stop(); } });
  const output = h("output");
  const play = button("Play", () => (timer ? stop() : start()));

  function start() {
    if (view[axis] === last) go({ [axis]: first });
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

// The playback of training steps; nothing to control if there is only one.
function trainingPlayback(steps, view, go, ready) {
  const name = (step) => (/^[\d,.]+$/.test(steps[step]) ? `step ${steps[step]}` : steps[step]);
  const training = playback({ axis: "step", label: "Training", last: steps.length - 1, frame: 600, name, ready }, view, go);
  return { ...training, controls: steps.length > 1 ? training.controls : [] };
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
}

// Shows small pictures in crisp squares and large ones smoothly; `side` is the longer side on screen.
function fit(canvas, height, width, side) {
  const zoom = side / Math.max(height, width);
  Object.assign(canvas.style, { width: `${width * zoom}px`, height: `${height * zoom}px`, imageRendering: zoom >= 2.5 ? "pixelated" : "auto" });
}

// Lays an element over a part of its picture; all numbers are fractions of the picture.
const lay = (element, left, top, width, height) =>
  Object.assign(element.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%` });

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

// Where left, right, Home and End lead in a row of `size`; null for any other key.
function walked(event, at, size) {
  const to = { Home: 0, End: size - 1, ArrowLeft: at - 1, ArrowRight: at + 1 }[event.key];
  if (to === undefined) return null;
  event.preventDefault();
  return clamp(to, 0, size - 1);
}

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
