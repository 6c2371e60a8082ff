// What the widgets that show weights as colours share: a picture under a map, a scale, a square of cells, and all heads at a glance.

const number = (value) => (value === 0 ? "0" : Math.abs(value) >= 1e-6 ? value.toPrecision(3) : value.toExponential(2));
const headName = (head) => (head === "mean" ? "mean of heads" : `head ${head}`);

// RGB bytes of codes (0..255) by a colour table.
function coloured(codes, table) {
  const colours = new Uint8Array(codes.length * 3);
  codes.forEach((code, i) => colours.set(table.subarray(3 * code, 3 * code + 3), 3 * i));
  return colours;
}

// How bright a colour is, 0 to 1 (WCAG 2.2, relative luminance).
const brightness = (rgb) => {
  const [red, green, blue] = [...rgb].map((part) => (part <= 10 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};

// The style of a word on the colour of a code: black or white, whichever stands out more; that is 4.5 : 1 at least.
const tinted = (code, table) => {
  const rgb = table.subarray(3 * code, 3 * code + 3);
  return { background: `rgb(${rgb.join()})`, color: brightness(rgb) > 0.179 ? "#000000" : "#ffffff" };
};

// A picture (height, width, 3) under the colours of a map (rows, columns). By the strength, 0 to 1, the picture fades to grey,
// which lets no colour of it pass for a colour of the map, and the map comes in, up to MOST: below the brightest cell and
// the darkest, the picture keeps the rest of its contrast and can still be read.
const MOST = 0.55;
const USUAL = 0.8; // strength where one has not chosen; stills.py covers as much

function overlaid(pixels, codes, table, strength, [height, width], [rows, columns]) {
  const out = new Uint8Array(pixels.length);
  for (let y = 0, i = 0; y < height; y++) {
    const row = Math.floor((y * rows) / height) * columns;
    for (let x = 0; x < width; x++) {
      const colour = 3 * codes[row + Math.floor((x * columns) / width)];
      const grey = 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
      for (let c = 0; c < 3; c++, i++) {
        const under = pixels[i] + (grey - pixels[i]) * strength;
        out[i] = Math.round(under + (table[colour + c] - under) * strength * MOST);
      }
    }
  }
  return out;
}

// The colours between the numbers they stand for; `point` sets a tick at a fraction of the way, or hides it with null.
function colourScale(table) {
  const bar = h("canvas", { className: "vlm-bar-colours", role: "img", "aria-label": "colour scale" });
  const [low, tick, high] = [h("span", {}, "0"), h("div", { className: "vlm-tick", hidden: true }), h("span")];
  paint(bar, table, 1, 256);
  const point = (fraction) => {
    tick.hidden = fraction === null;
    tick.style.left = `${100 * clamp(fraction ?? 0, 0, 1)}%`;
  };
  return { bar, low, high, point, element: div("vlm-scale", low, div("vlm-bar-frame", bar, tick), high) };
}

// The slider for how much of its picture a map covers.
const overlaySlider = (draw) => slider(100, draw, { step: 5, value: 100 * USUAL });

// A picture that is a grid of cells, with `over` on top. `hover` gets the cell [row, column] under the pointer, or null; `choose`
// gets the one that is clicked, or where an arrow key leads from the cell `at()`; `point` frames one. Other keys go to `keys`.
function cellPicture({ grid, label, at, hover, choose, keys = () => {} }, ...over) {
  const canvas = h("canvas", { role: "img" });
  const pointer = h("div", { className: "vlm-pointer", hidden: true });
  const walk = (event) => {
    const place = arrowed(event, at(), grid);
    if (!place) return keys(event);
    hover(null);
    choose(place);
  };
  const area = h("div", { className: "vlm-picture", tabIndex: 0, role: "application", "aria-label": label, onkeydown: walk,
    onpointermove: (event) => hover(cellAt(event, canvas, grid)), onpointerleave: () => hover(null),
    onclick: (event) => choose(cellAt(event, canvas, grid)) }, canvas, pointer, ...over);
  const point = (place) => {
    pointer.hidden = !place;
    if (place) layCell(pointer, place, grid);
  };
  return { area, canvas, point };
}

// Cells with heads for their rows and columns: a square of `size`, or any `grid` of [rows, columns].
function cellMap({ size, grid = [size, size], side, rows, columns, hover, ...more }) {
  const cell = clamp(Math.floor(side / Math.max(...grid)), 5, 64);
  const { area, canvas, point } = cellPicture({ grid, hover: (place) => { point(place); hover(place); }, ...more });
  const element = h("div", { className: "vlm-cells", style: `--cell: ${cell}px` }, div("vlm-columns", ...columns), div("vlm-rows", ...rows), area);
  fit(canvas, ...grid, cell * Math.max(...grid));
  canvas.style.imageRendering = "pixelated";
  return { element, area, canvas, cell };
}

// One small map for every layer and head, and for the mean of heads; `extra` names one more below them. `controls` choose
// the same by name. A place is {layer, head}, or {layer: extra}; `go` takes one. `scaled` says what is brightest in a map.
function headGrid({ layers, heads, extra, height, width, scaled, go }) {
  const side = clamp(Math.floor(400 / (heads + 1)) - 6, 20, 64);
  const thumb = (place, name) => {
    const canvas = fit(h("canvas"), height, width, side);
    canvas.style.imageRendering = Math.max(height, width) > side ? "auto" : "pixelated";
    return { canvas, place, button: button(canvas, () => go(place), { className: "vlm-thumb", title: name, "aria-label": name }) };
  };
  const pick = (name) => (event) => go({ [name]: /^\d+$/.test(event.target.value) ? +event.target.value : event.target.value });
  const named = (names) => names.map((name) => [name, String(name)]);
  const layer = choice(named([...count(layers), ...(extra ? [extra] : [])]), pick("layer"));
  const head = choice(named([...count(heads), "mean"]), pick("head"));
  const thumbs = count(layers).flatMap((row) => [...count(heads), "mean"].map((column) => thumb({ layer: row, head: column }, `layer ${row}, ${headName(column)}`)));
  if (extra) thumbs.push(thumb({ layer: extra }, extra));
  const which = (place) => (place.layer === extra ? thumbs.length - 1 : place.layer * (heads + 1) + (place.head === "mean" ? heads : place.head));
  let now = 0;
  const keys = walking(() => thumbs.map((it) => it.button), () => now, (index) => go(thumbs[index].place), heads + 1);
  const axis = (text) => h("span", { className: "vlm-axis" }, text);
  const grid = h("div", { className: "vlm-overview", role: "group", "aria-label": "All heads; arrow keys move", onkeydown: keys },
    h("span"), ...count(heads).map((column) => axis(heads > 8 ? String(column) : `head ${column}`)), axis("mean"),
    ...count(layers).flatMap((row) => [axis(`layer ${row}`), ...thumbs.slice(row * (heads + 1), (row + 1) * (heads + 1)).map((it) => it.button)]),
    ...(extra ? [axis(extra), thumbs.at(-1).button] : []));
  grid.style.gridTemplateColumns = `repeat(${heads + 2}, max-content)`;
  const element = h("div", {}, div("vlm-scroll", grid), div("vlm-guess", scaled));

  return { element, which, controls: [labelled("Layer", layer), labelled("Head", head)],
    mark(place) {
      now = which(place);
      [layer.value, head.value, head.disabled] = [place.layer, place.head, extra !== null && place.layer === extra];
      press(thumbs.map((it) => it.button), now);
    },
    draw: (colours) => thumbs.forEach(({ canvas }, index) => paint(canvas, colours(index), height, width)) };
}
