const EDGE = { left: 46, right: 10, top: 8, bottom: 34 };

// About `some` round numbers inside [low, high].
function ticks(low, high, some) {
  const rough = (high - low) / some || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const first = Math.ceil(low / step - 1e-9);
  return count(Math.floor(high / step + 1e-9) - first + 1).map((i) => +((first + i) * step).toPrecision(12));
}

const short = (value) => (Number.isFinite(value) ? String(+value.toPrecision(4)) : "–");

function build(model) {
  const names = model.get("names");
  let [points, pending] = [[], false];

  const panels = names.map((name, i) => {
    const [canvas, value, words] = [h("canvas", { role: "img" }), h("b"), name.replaceAll("_", " ")];
    const panel = { canvas, value, words, at: i + 1, hover: null, element: div("vlm-panel", div("vlm-key", words, value), canvas) };
    canvas.addEventListener("pointermove", (event) => { panel.hover = event.offsetX; draw(panel); });
    canvas.addEventListener("pointerleave", () => { panel.hover = null; draw(panel); });
    return panel;
  });

  // At most one drawing per frame; the canvas is redrawn whole in one go, so nothing flickers.
  function refresh() {
    const [table, width] = [floats(model.get("points") ?? new ArrayBuffer(0)), names.length + 1];
    points = count(table.length / width).map((i) => table.subarray(i * width, (i + 1) * width));
    if (pending) return;
    pending = true;
    requestAnimationFrame(() => { pending = false; panels.forEach(draw); });
  }

  function draw(panel) {
    const { canvas, at } = panel;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    const pen = sharpPen(canvas, width, height);
    const there = points.filter((point) => Number.isFinite(point[at]));
    const range = (list) => list.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
    let [low, high] = there.length ? range(there.map((point) => point[at])) : [0, 1];
    if (low >= 0 && low < high / 2) low = 0;
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    high += (high - low) * 0.05;
    let [start, end] = points.length ? range(points.map(([step]) => step)) : [0, 1];
    if (start === end) end = start + 1;
    const x = (step) => EDGE.left + ((step - start) / (end - start)) * (width - EDGE.left - EDGE.right);
    const y = (value) => height - EDGE.bottom - ((value - low) / (high - low)) * (height - EDGE.top - EDGE.bottom);

    Object.assign(pen, { font: "12px system-ui, sans-serif", fillStyle: GREY, strokeStyle: GREY, textAlign: "right", textBaseline: "middle" });
    for (const value of ticks(low, high, 4)) {
      pen.fillText(short(value), EDGE.left - 6, y(value));
      pen.globalAlpha = 0.25;
      stroke(pen, [[EDGE.left, y(value)], [width - EDGE.right, y(value)]]);
      pen.globalAlpha = 1;
    }
    Object.assign(pen, { textAlign: "center", textBaseline: "top" });
    for (const step of ticks(start, end, 5)) pen.fillText(short(step), x(step), height - EDGE.bottom + 6);
    pen.fillText("step", (EDGE.left + width - EDGE.right) / 2, height - 13);
    Object.assign(pen, { strokeStyle: TEXT, fillStyle: TEXT, lineWidth: 2, lineJoin: "round" });
    stroke(pen, there.map((point) => [x(point[0]), y(point[at])]));
    report(panel, there, pen, x, y);
  }

  // The number beside the name: at the pointer while it is over the panel, the newest otherwise.
  function report({ canvas, at, value, words, hover }, there, pen, x, y) {
    const far = (point) => Math.abs(x(point[0]) - hover);
    const point = hover === null ? there.at(-1) : there.reduce((best, other) => (far(other) < far(best) ? other : best), there[0]);
    value.textContent = point ? short(point[at]) + (hover === null ? "" : ` at ${point[0]}`) : "–";
    if (point && hover !== null) {
      pen.beginPath();
      pen.arc(x(point[0]), y(point[at]), 4, 0, 7);
      pen.fill();
    }
    canvas.setAttribute("aria-label", `${model.get("title")}: ${words} ${value.textContent}`);
  }

  const root = frame("plot", model.get("title"), div("vlm-title", model.get("title")), div("vlm-panels", ...panels.map(({ element }) => element)));
  const resized = new ResizeObserver(refresh);
  resized.observe(root);
  return { root, draw: refresh, heard: { "change:points": refresh }, stop: () => resized.disconnect() };
}
