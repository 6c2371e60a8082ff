const MODES = { cosine: "cosine", row: "softmax over row: image → text", column: "softmax over column: text → image" };
const POSITIONS = 200; // of the temperature slider, from 0.01 to 1, evenly in the logarithm

// Log softmax of cosine / temperature, over every row (axis 1) or column (axis 0).
function logSoftmax(cosines, size, temperature, axis) {
  const out = new Float64Array(size * size);
  for (let line = 0; line < size; line++) {
    const places = count(size).map((i) => (axis ? line * size + i : i * size + line));
    const largest = Math.max(...places.map((place) => cosines[place]));
    const sum = places.reduce((total, place) => total + Math.exp((cosines[place] - largest) / temperature), 0);
    for (const place of places) out[place] = (cosines[place] - largest) / temperature - Math.log(sum);
  }
  return out;
}

// For every pair the best of the others in its row (axis 1) or column (axis 0): its rival.
function rivals(cosines, size, axis) {
  const at = (pair, other) => cosines[axis ? pair * size + other : other * size + pair];
  return count(size).map((pair) => {
    const others = count(size).filter((other) => other !== pair);
    const best = others.reduce((a, b) => (at(pair, b) > at(pair, a) ? b : a));
    return { pair, best, wrong: at(pair, best) >= at(pair, pair), cell: axis ? [pair, best] : [best, pair] };
  });
}

function render({ model, el }) {
  const texts = model.get("texts");
  const size = texts.length;
  const [height, width] = model.get("size");
  const table = bytes(model.get("colours"));
  const cosines = floats(model.get("blobs").similarity);
  const pixels = bytes(model.get("blobs").images);
  const range = [Math.min(...cosines), Math.max(...cosines)];
  const ranked = { row: rivals(cosines, size, 1), column: rivals(cosines, size, 0) };
  let [temperature, mode, cell] = ["temperature", "mode", "cell"].map((name) => model.get(name));
  let [hovered, logs] = [null, null];
  const keep = Object.fromEntries(["temperature", "mode", "cell"].map((name) => [name, keeper(model, name)]));

  // ---- the matrix
  const picture = (i) => pixels.subarray(i * height * width * 3, (i + 1) * height * width * 3);
  const thumb = (i) => {
    const canvas = h("canvas", { className: "vlm-strip" });
    paint(canvas, picture(i), height, width);
    return canvas;
  };
  const every = size > 40 ? 8 : size > 24 ? 4 : 1; // small cells have room for few numbers
  const head = (i) => h("span", { className: "vlm-axis" }, i % every ? "" : String(i));
  const map = cellMap({ size, side: 448, label: "Similarity matrix, images down, texts across: arrow keys move",
    rows: count(size).map((i) => h("div", {}, head(i), thumb(i))), columns: count(size).map(head), at: () => cell,
    hover: (place) => { hovered = place; read(); }, choose: (place) => { cell = place; draw(); keep.cell(cell); } });
  const [marks, chosen] = [h("canvas", { className: "vlm-marks" }), h("div", { className: "vlm-chosen" })];
  map.area.append(marks, chosen);
  const scale = colourScale(table);

  // ---- the controls
  const colour = choice(Object.entries(MODES), () => { mode = colour.value; draw(); keep.mode(mode); });
  const slider = h("input", { type: "range", min: 0, max: POSITIONS, oninput: () => {
    temperature = 10 ** (2 * (slider.value / POSITIONS - 1));
    logs = null;
    draw();
    keep.temperature(temperature);
  } });
  const told = h("output");
  const [loss, recall] = [h("b", { className: "vlm-number" }), h("div")];
  const [filled, guess] = [h("div", { className: "vlm-filled" }), `guessing: ln ${size} = ${Math.log(size).toFixed(3)}`];
  const large = h("canvas", { role: "img" });
  fit(large, height, width, 128);
  const [caption, words] = [h("p", { className: "vlm-caption vlm-of-text" }), h("div", { role: "status" })];
  const numbers = ["cosine", "p(text | image)", "p(image | text)"].map((name) => ({ name, value: h("b") }));

  // ---- drawing
  const probability = (axis, place) => Math.exp(logs[axis][place]);
  const fraction = (place) => mode === "cosine" ? (cosines[place] - range[0]) / (range[1] - range[0] || 1) : probability(mode === "row" ? 1 : 0, place);

  function draw() {
    logs ??= [0, 1].map((axis) => logSoftmax(cosines, size, temperature, axis));
    paint(map.canvas, coloured(Uint8Array.from(cosines, (_, place) => Math.round(255 * fraction(place))), table), size, size);
    [scale.low.textContent, scale.high.textContent] = mode === "cosine" ? range.map((end) => end.toFixed(2)) : ["0", "1"];
    [colour.value, slider.value] = [mode, Math.round(POSITIONS * (1 + Math.log10(temperature) / 2))];
    told.textContent = slider.ariaValueText = `${temperature.toPrecision(2)}, so logits = ${(1 / temperature).toPrecision(3)} × cosine`;
    layCell(chosen, cell, [size, size]);
    drawLoss();
    drawMarks(mode === "cosine" ? [...ranked.row, ...ranked.column] : ranked[mode]);
    read();
  }

  function drawLoss() {
    const value = -count(size).reduce((sum, i) => sum + logs[0][i * (size + 1)] + logs[1][i * (size + 1)], 0) / (2 * size);
    loss.textContent = value.toFixed(3);
    filled.style.width = `${50 * Math.min(value / Math.log(size), 2)}%`; // the middle is a guess
    const right = (axis) => size - ranked[axis].filter(({ wrong }) => wrong).length;
    recall.replaceChildren(...[["image → text", "row"], ["text → image", "column"]].map(([name, axis]) =>
      h("div", {}, `R@1 ${name} `, h("b", {}, `${((100 * right(axis)) / size).toFixed(0)} %`), ` (${right(axis)} of ${size})`)));
    map.canvas.setAttribute("aria-label", `${size} images by ${size} texts, ${MODES[mode]}. Loss ${loss.textContent}, ${guess}. ${recall.innerText}`);
  }

  // A cross on every pair that is not ranked first, a ring on the rival that beats it; edged in white, to read on all colours.
  function drawMarks(lines) {
    const zoom = 2;
    Object.assign(marks, { width: zoom * size * map.cell, height: zoom * size * map.cell });
    const pen = marks.getContext("2d");
    const [unit, radius] = [zoom * map.cell, zoom * clamp(map.cell * 0.28, 2.5, 9)];
    pen.lineCap = "round";
    for (const [colour, thick] of [["#ffffff", 3.2], [ACCENT, 1.6]]) {
      Object.assign(pen, { strokeStyle: colour, lineWidth: zoom * thick });
      for (const { pair, cell: [row, column] } of lines.filter(({ wrong }) => wrong)) {
        const [x, y] = [(pair + 0.5) * unit, (pair + 0.5) * unit];
        pen.beginPath();
        pen.moveTo(x - radius, y - radius); pen.lineTo(x + radius, y + radius);
        pen.moveTo(x + radius, y - radius); pen.lineTo(x - radius, y + radius);
        pen.moveTo((column + 0.5) * unit + radius, (row + 0.5) * unit);
        pen.arc((column + 0.5) * unit, (row + 0.5) * unit, radius, 0, 7);
        pen.stroke();
      }
    }
  }

  // The picture, the text and the numbers of the cell under the pointer, otherwise of the chosen one.
  function read() {
    const [row, column] = hovered ?? cell;
    const place = row * size + column;
    paint(large, picture(row), height, width);
    large.setAttribute("aria-label", `image ${row}`);
    caption.textContent = texts[column];
    words.textContent = `image ${row} and text ${column}, ${row === column ? "a pair" : "not a pair"}`;
    numbers.forEach(({ value }, i) => { value.textContent = i ? number(probability(2 - i, place)) : cosines[place].toFixed(3); });
    scale.point(fraction(place));
  }

  el.append(frame("similarity", "Similarity matrix",
    h("div", {}, map.element, scale.element,
      h("div", { className: "vlm-legend" }, h("span", {}, h("i", {}, "×"), " pair not ranked first"), h("span", {}, h("i", {}, "○"), " its rival"))),
    h("div", { className: "vlm-side" },
      labelled("Colours", colour),
      h("div", { className: "vlm-bar" }, labelled("Temperature", slider), told),
      h("div", {}, h("div", { className: "vlm-bar" }, "InfoNCE loss", loss),
        h("div", { className: "vlm-meter" }, filled), h("div", { className: "vlm-guess" }, guess)),
      recall,
      h("div", { className: "vlm-card" }, large, h("div", {}, caption, words,
        h("div", { className: "vlm-facts" }, ...numbers.flatMap(({ name, value }) => [h("span", {}, name), value])))))));
  draw();
  const follow = (name, set) => ({ [`change:${name}`]: () => { set(model.get(name)); draw(); } });
  return subscribe(model, { ...follow("mode", (value) => { mode = value; }), ...follow("cell", (value) => { cell = value; }),
    ...follow("temperature", (value) => { temperature = value; logs = null; }) });
}

export default { render };
