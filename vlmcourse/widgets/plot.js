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
  const { colours, dashes } = model.get("pens");
  const names = model.get("panels").flat();
  let [points, pending] = [[], false];

  const panels = model.get("panels").map((series) => {
    const canvas = h("canvas", { role: "img" });
    const legend = series.map((name, i) => {
      const sample = h("canvas", { width: 52, height: 8, "aria-hidden": "true" });
      const pen = sample.getContext("2d");
      Object.assign(pen, { strokeStyle: colours[i], lineWidth: 4 });
      pen.setLineDash(dashes[i].map((length) => 2 * length));
      pen.strokeRect(0, 4, 52, 0);
      const value = h("b");
      return { value, item: h("span", { className: "vlm-key" }, sample, name.replaceAll("_", " "), value) };
    });
    const panel = { series, canvas, legend, at: series.map((name) => 1 + names.indexOf(name)), hover: null };
    canvas.addEventListener("pointermove", (event) => { panel.hover = event.offsetX; draw(panel); });
    canvas.addEventListener("pointerleave", () => { panel.hover = null; draw(panel); });
    panel.element = div("vlm-panel", div("vlm-keys", ...legend.map(({ item }) => item)), canvas);
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
    const { canvas, at, legend } = panel;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width) return;
    const pen = sharpPen(canvas, width, height);
    const values = points.flatMap((point) => at.map((i) => point[i])).filter(Number.isFinite);
    const range = (list) => list.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
    let [low, high] = values.length ? range(values) : [0, 1];
    if (low >= 0 && low < high / 2) low = 0;
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    high += (high - low) * 0.05;
    let [start, end] = points.length ? range(points.map((point) => point[0])) : [0, 1];
    if (start === end) end = start + 1;
    const x = (step) => EDGE.left + ((step - start) / (end - start)) * (width - EDGE.left - EDGE.right);
    const y = (value) => height - EDGE.bottom - ((value - low) / (high - low)) * (height - EDGE.top - EDGE.bottom);

    Object.assign(pen, { font: "11px system-ui, sans-serif", fillStyle: GREY, strokeStyle: GREY, lineWidth: 1 });
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const value of ticks(low, high, 4)) {
      pen.fillText(short(value), EDGE.left - 6, y(value));
      pen.globalAlpha = 0.25; pen.beginPath(); pen.moveTo(EDGE.left, y(value)); pen.lineTo(width - EDGE.right, y(value)); pen.stroke(); pen.globalAlpha = 1;
    }
    pen.textAlign = "center"; pen.textBaseline = "top";
    for (const step of ticks(start, end, 5)) pen.fillText(short(step), x(step), height - EDGE.bottom + 6);
    pen.fillText("step", (EDGE.left + width - EDGE.right) / 2, height - 13);

    at.forEach((index, i) => {
      pen.beginPath();
      for (const point of points) if (Number.isFinite(point[index])) pen.lineTo(x(point[0]), y(point[index]));
      Object.assign(pen, { strokeStyle: colours[i], lineWidth: 2, lineJoin: "round" });
      pen.setLineDash(dashes[i]); pen.stroke(); pen.setLineDash([]);
    });
    report(panel, pen, x, y);
  }

  // Numbers beside the names: at the pointer while it is over the panel, the newest otherwise.
  function report({ canvas, at, legend, series, hover }, pen, x, y) {
    const nearest = (there) => hover === null ? there.at(-1)
      : there.reduce((best, point) => (Math.abs(x(point[0]) - hover) < Math.abs(x(best[0]) - hover) ? point : best), there[0]);
    const told = at.map((index, i) => {
      const point = nearest(points.filter((candidate) => Number.isFinite(candidate[index])));
      legend[i].value.textContent = point ? short(point[index]) + (hover === null ? "" : ` at ${point[0]}`) : "–";
      if (point && hover !== null) { pen.fillStyle = colours[i]; pen.beginPath(); pen.arc(x(point[0]), y(point[index]), 4, 0, 7); pen.fill(); }
      return `${series[i].replaceAll("_", " ")} ${legend[i].value.textContent}`;
    });
    canvas.setAttribute("aria-label", `${model.get("title")}: ${told.join(", ")}`);
  }

  const root = frame("plot", model.get("title"), div("vlm-title", model.get("title")), div("vlm-panels", ...panels.map(({ element }) => element)));
  const resized = new ResizeObserver(refresh);
  resized.observe(root);
  return { root, draw: refresh, heard: { "change:points": refresh }, stop: () => resized.disconnect() };
}
