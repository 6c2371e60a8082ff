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

function build(model) {
  const texts = model.get("texts");
  const size = texts.length;
  const [height, width] = model.get("size");
  const table = bytes(model.get("colours"));
  const cosines = floats(model.get("blobs").similarity);
  const pixels = bytes(model.get("blobs").images);
  const range = [Math.min(...cosines), Math.max(...cosines)];
  const ranked = { row: rivals(cosines, size, 1), column: rivals(cosines, size, 0) };
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(read);
  let logs = []; // the log probabilities of columns and of rows

  const picture = (i) => pixels.subarray(i * height * width * 3, (i + 1) * height * width * 3);
  const thumb = (i) => paint(h("canvas", { className: "vlm-strip" }), picture(i), height, width);
  const every = size > 40 ? 8 : size > 24 ? 4 : 1; // small cells have room for few numbers
  const head = (i) => h("span", { className: "vlm-axis" }, i % every ? "" : String(i));
  const map = cellMap({ size, side: 448, label: "Similarity matrix, images down, texts across: arrow keys move",
    rows: count(size).map((i) => h("div", {}, head(i), thumb(i))), columns: count(size).map(head), at: () => view.cell,
    hover, choose: (cell) => go({ cell }) });
  const [marks, chosen] = [h("canvas", { className: "vlm-marks" }), div("vlm-chosen")];
  map.area.append(marks, chosen);
  const scale = colourScale(table);

  const colour = choice(Object.entries(MODES), () => go({ mode: colour.value }));
  const heat = slider(POSITIONS, () => go({ temperature: 10 ** (2 * (heat.value / POSITIONS - 1)) }));
  const [told, loss, recall, facts] = [h("output"), h("b", { className: "vlm-number" }), h("div"), div("vlm-facts")];
  const [bar, guess] = [meter(), `guessing: ln ${size} = ${Math.log(size).toFixed(3)}`];
  const large = fit(h("canvas", { role: "img" }), height, width, 128);
  const [caption, words] = [h("p", { className: "vlm-caption" }), says()];

  const probability = (axis, place) => Math.exp(logs[axis][place]);
  const fraction = (place) => view.mode === "cosine" ? (cosines[place] - range[0]) / (range[1] - range[0] || 1) : probability(view.mode === "row" ? 1 : 0, place);

  function draw() {
    const { temperature, mode } = view;
    logs = [0, 1].map((axis) => logSoftmax(cosines, size, temperature, axis));
    paint(map.canvas, coloured(Uint8Array.from(cosines, (_, place) => Math.round(255 * fraction(place))), table), size, size);
    [scale.low.textContent, scale.high.textContent] = mode === "cosine" ? range.map((end) => end.toFixed(2)) : ["0", "1"];
    [colour.value, heat.value] = [mode, Math.round(POSITIONS * (1 + Math.log10(temperature) / 2))];
    told.textContent = heat.ariaValueText = `${temperature.toPrecision(2)}, so logits = ${(1 / temperature).toPrecision(3)} × cosine`;
    layCell(chosen, view.cell, [size, size]);
    drawLoss();
    drawMarks(mode === "cosine" ? [...ranked.row, ...ranked.column] : ranked[mode]);
    read();
  }

  function drawLoss() {
    const value = -count(size).reduce((sum, i) => sum + logs[0][i * (size + 1)] + logs[1][i * (size + 1)], 0) / (2 * size);
    loss.textContent = value.toFixed(3);
    bar.fill(Math.min(value / Math.log(size), 2) / 2); // the middle is a guess
    const right = (axis) => size - ranked[axis].filter(({ wrong }) => wrong).length;
    recall.replaceChildren(...[["image → text", "row"], ["text → image", "column"]].map(([name, axis]) =>
      h("div", {}, `R@1 ${name} `, h("b", {}, `${((100 * right(axis)) / size).toFixed(0)} %`), ` (${right(axis)} of ${size})`)));
    map.canvas.setAttribute("aria-label", `${size} images by ${size} texts, ${MODES[view.mode]}. Loss ${loss.textContent}, ${guess}. ${recall.innerText}`);
  }

  // A cross on every pair that is not ranked first, a ring on the rival that beats it; edged in white, to read on all colours.
  function drawMarks(lines) {
    const pen = sharpPen(marks, size * map.cell, size * map.cell);
    const [unit, radius] = [map.cell, clamp(map.cell * 0.28, 2.5, 9)];
    pen.lineCap = "round";
    for (const [colour, thick] of [["#ffffff", 3.2], [ACCENT, 1.6]]) {
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
      for (const { pair, cell: [row, column] } of lines.filter(({ wrong }) => wrong)) {
        const [x, y] = [(pair + 0.5) * unit, (pair + 0.5) * unit];
        stroke(pen, [[x - radius, y - radius], [x + radius, y + radius]]);
        stroke(pen, [[x + radius, y - radius], [x - radius, y + radius]]);
        pen.beginPath();
        pen.arc((column + 0.5) * unit, (row + 0.5) * unit, radius, 0, 7);
        pen.stroke();
      }
    }
  }

  // The picture, the text and the numbers of the cell under the pointer, otherwise of the chosen one.
  function read() {
    const [row, column] = hover.place ?? view.cell;
    const place = row * size + column;
    paint(large, picture(row), height, width);
    large.setAttribute("aria-label", `image ${row}`);
    caption.textContent = texts[column];
    words.textContent = `image ${row} and text ${column}, ${row === column ? "a pair" : "not a pair"}`;
    tabulate(facts, [["cosine", cosines[place].toFixed(3)], ["p(text | image)", number(probability(1, place))], ["p(image | text)", number(probability(0, place))]]);
    scale.point(fraction(place));
  }

  const root = frame("similarity", "Similarity matrix",
    h("div", {}, map.element, scale.element, legend([sign("×"), "pair not ranked first"], [sign("○"), "its rival"])),
    div("vlm-side", labelled("Colours", colour), div("vlm-bar", labelled("Temperature", heat), told),
      h("div", {}, div("vlm-bar", "InfoNCE loss", loss), bar.element, div("vlm-guess", guess)), recall,
      div("vlm-card", large, h("div", {}, caption, words, facts))));
  return { root, draw, heard };
}
