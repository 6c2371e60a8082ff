const title = (name) => name.slice(0, 1).toUpperCase() + name.slice(1);

function build(model) {
  const { rows, columns, cls, layers, heads, rollout, labels, names, steps, sizes } = model.get("shape");
  const table = bytes(model.get("colours"));
  const [grid, cells] = [[rows, columns], rows * columns];
  const maps = layers * (heads + 1) + (rollout ? 1 : 0);
  const store = new Store(model, draw);
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(read); // over [row, column] or "cls"
  let shown = null;

  // All maps of the query, or null while the kernel is asked for them.
  function slab({ step, image, query }) {
    const size = maps * (8 + cells);
    const block = store.peek(`rows/${step}/${image}`);
    return block ? block.subarray(query * size, (query + 1) * size) : store.get(`rows/${step}/${image}/${query}`);
  }

  function mapOf(data, index) {
    const numbers = new DataView(data.buffer, data.byteOffset + index * 8, 8);
    const start = maps * 8 + index * cells;
    return { largest: numbers.getFloat32(0, true), cls: numbers.getFloat32(4, true), codes: data.subarray(start, start + cells) };
  }

  const overview = headGrid({ layers, heads, extra: rollout ? "rollout" : null, height: rows, width: columns,
    scaled: "Small maps: dark blue is 0, yellow the largest weight of each, by itself", go });
  const image = choice(labels.map((label, i) => [i, label]), () => go({ image: +image.value }));
  const strength = overlaySlider(draw);
  const training = playback({ axis: "step", label: title(names.step), last: steps.length - 1, frame: 600, name: (step) => steps[step],
    ready: () => slab(view) !== null }, view, go); // null: the kernel has not answered yet

  const marker = div("vlm-box");
  const { area, canvas, point } = cellPicture({ grid, label: `Picture: arrow keys move the query patch${cls ? `, C asks from ${names.cls}` : ""}`,
    at: () => placeOf(Math.max(view.query - cls, 0), grid), hover, choose: (place) => go({ query: cls + cellOf(place, grid) }), keys }, marker);
  const token = button(names.cls, () => go({ query: 0 }), { className: "vlm-token", "aria-label": `${title(names.cls)} as query`, ...pointed(hover, "cls") });
  const [scale, words, reading] = [colourScale(table), says("vlm-words"), div("vlm-reading")];

  function keys(event) {
    if (!cls || event.key.toLowerCase() !== "c") return;
    event.preventDefault();
    go({ query: 0 });
  }

  const nameOf = (query) => (query < cls ? names.cls : placeName(placeOf(query - cls, grid)));
  const largest = (map) => `${number(map.largest)} at ${nameOf(cls + map.codes.indexOf(255))}`;
  const mapName = () => view.layer === "rollout" ? "Rollout" : `Layer ${view.layer}, ${headName(view.head)}`;

  function draw() {
    image.value = view.image;
    training.show();
    token.setAttribute("aria-pressed", view.query < cls);
    marker.hidden = view.query < cls;
    layCell(marker, placeOf(view.query - cls, grid), grid);
    overview.mark(view);
    const [data, pixels] = [slab(view), store.get(`image/${view.image}`)];
    area.setAttribute("aria-busy", !data || !pixels);
    if (!data || !pixels) {
      words.textContent = WAITING;
      return;
    }
    const map = mapOf(data, overview.which(view));
    paint(canvas, overlaid(pixels, map.codes, table, strength.value / 100, sizes[view.image], grid), ...sizes[view.image]);
    fit(canvas, ...sizes[view.image], 416);
    const place = `${view.step}/${view.image}/${view.query}`;
    if (!shown || shown.place !== place) overview.draw((index) => coloured(mapOf(data, index).codes, table));
    shown = { map, place };
    const code = map.largest ? clamp(Math.round((map.cls / map.largest) * 255), 0, 255) : 255;
    Object.assign(token.style, tinted(code, table));
    scale.high.textContent = number(map.largest);
    words.textContent = `${mapName()}. Query: ${nameOf(view.query)}.`;
    canvas.setAttribute("aria-label", `${labels[view.image]}. ${words.textContent} Largest patch weight ${largest(map)}.`);
    read();
  }

  // The number under the pointer, in words and as a tick on the scale.
  function read() {
    const place = hover.place === "cls" ? null : hover.place;
    point(shown && place);
    scale.point(null);
    if (!shown || !hover.place) {
      reading.textContent = shown ? `Largest ${largest(shown.map)} · point to read others` : "";
      return;
    }
    const { map } = shown;
    const weight = place ? (map.codes[cellOf(place, grid)] * map.largest) / 255 : map.cls;
    const share = `${number(weight)}, ${(weight * (cells + cls)).toFixed(1)} × an even share`;
    reading.textContent = `${place ? `Row ${place[0]}, column ${place[1]}` : title(names.cls)}: ${share}`;
    scale.point(map.largest ? weight / map.largest : 0);
  }

  function exportPicture() {
    const [width, height] = [2 * canvas.clientWidth, 2 * canvas.clientHeight];
    const sheet = h("canvas", { width, height: height + 120 });
    const pen = sheet.getContext("2d");
    Object.assign(pen, { fillStyle: "#ffffff", imageSmoothingEnabled: canvas.style.imageRendering !== "pixelated" });
    pen.fillRect(0, 0, sheet.width, sheet.height);
    pen.drawImage(canvas, 0, 0, width, height);
    pen.imageSmoothingEnabled = true;
    pen.drawImage(scale.bar, 0, height + 12, width, 20);
    if (!marker.hidden) {
      const [row, column] = placeOf(view.query - cls, grid);
      Object.assign(pen, { strokeStyle: ACCENT, lineWidth: 6 });
      pen.strokeRect((column * width) / columns, (row * height) / rows, width / columns, height / rows);
    }
    Object.assign(pen, { fillStyle: INK, font: "24px system-ui, sans-serif", textBaseline: "top" });
    pen.fillText("0", 0, height + 40);
    pen.fillText(`${words.textContent} ${labels[view.image]}${steps.length > 1 ? `, ${names.step} ${steps[view.step]}` : ""}`, 0, height + 80, width);
    pen.textAlign = "right";
    pen.fillText(scale.high.textContent, width, height + 40);
    h("a", { href: sheet.toDataURL("image/png"), download: `attention_${mapName()}_query_${view.query}.png`.replace(/[ ,]+/g, "_").toLowerCase() }).click();
  }

  const root = frame("attention", "Attention explorer",
    h("div", {}, area, scale.element, words, reading),
    div("vlm-side",
      div("vlm-bar", ...when(labels.length > 1, labelled(title(names.image), image)), ...overview.controls, ...when(cls, labelled("Query", token))),
      overview.element,
      ...when(steps.length > 1, div("vlm-bar", ...training.controls)),
      div("vlm-bar", labelled("Overlay", strength), button("Save PNG", exportPicture))));
  return { root, draw, heard: { "msg:custom": store.receive, ...heard }, stop: training.stop };
}
