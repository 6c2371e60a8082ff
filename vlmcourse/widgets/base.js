// The shared half of every widget; base.py puts it before the widget's own file, so it imports and exports nothing.

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

const labelled = (text, control) => h("label", { className: "vlm-label" }, h("span", {}, text), control);
const choice = (values, onchange) =>
  h("select", { onchange }, ...values.map(([value, text]) => h("option", { value }, text)));

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
    saving = setTimeout(() => remember(model, name, { ...value }), 100);
  };
}

// Play, a slider and the step's name: moves view().step through `steps`; a frame waits until `ready`.
function playback(steps, view, go, ready = () => true) {
  const [FRAME_MS, last] = [600, steps.length - 1];
  let timer = null;
  const time = h("input", { type: "range", min: 0, max: last, oninput: () => { go({ step: +time.value }); stop(); } });
  const name = h("output");
  const play = h("button", { type: "button", className: "vlm-button", onclick: () => (timer ? stop() : start()) });

  function start() {
    if (view().step === last) go({ step: 0 });
    timer = setInterval(() => {
      if (!ready()) return;
      go({ step: Math.min(view().step + 1, last) });
      if (view().step === last) stop();
    }, FRAME_MS);
    show();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    show();
  }

  function show() {
    const step = String(steps[view().step]);
    name.textContent = /^[\d,.]+$/.test(step) ? `step ${step}` : step;
    [time.value, time.ariaValueText, play.textContent] = [view().step, name.textContent, timer ? "Pause" : "Play"];
  }

  return { show, stop, controls: last > 0 ? [play, labelled("Training", time), name] : [] };
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
