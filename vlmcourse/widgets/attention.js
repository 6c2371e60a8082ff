function render({ model, el }) {
  const shape = model.get("shape");
  const { rows, columns, cls, layers, heads, rollout, labels, steps, sizes } = shape;
  const table = bytes(model.get("colours"));
  const grid = [rows, columns];
  const cells = rows * columns;
  const maps = layers * (heads + 1) + (rollout ? 1 : 0);
  const store = new Store(model, draw);
  const { view, go, heard } = viewer(model, draw);
  let [shown, hovered, strength] = [null, null, 0.6];

  // ---- the data
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

  // ---- the controls
  const overview = headGrid({ layers, heads, extra: rollout ? "rollout" : null, height: rows, width: columns, go });
  const image = choice(labels.map((label, i) => [i, label]), () => go({ image: +image.value }));
  const overlay = h("input", { type: "range", min: 0, max: 100, step: 5, value: 60, oninput: () => { strength = overlay.value / 100; draw(); } });
  const training = trainingPlayback(steps, view, go, () => slab(view) !== null); // null: the kernel has not answered yet
  const save = button("Save PNG", exportPicture);

  // ---- the picture
  const canvas = h("canvas", { role: "img" });
  const [marker, pointer] = [h("div", { className: "vlm-query" }), h("div", { className: "vlm-pointer", hidden: true })];
  const picture = h("div", { className: "vlm-picture", tabIndex: 0, role: "application",
    "aria-label": "Picture: arrow keys move the query patch, C asks from the class token", onkeydown: keys,
    onpointermove: (event) => hover(patchAt(event)), onpointerleave: () => hover(null),
    onclick: (event) => go({ query: cls + patchAt(event) }) }, canvas, pointer, marker);
  const token = h("button", { type: "button", className: "vlm-token", "aria-label": "Class token as query", onclick: () => go({ query: 0 }),
    onpointerenter: () => hover("cls"), onpointerleave: () => hover(null) }, "CLS");
  const scale = colourScale(table);
  const words = h("div", { className: "vlm-words", role: "status" });
  const reading = h("div", { className: "vlm-reading" });

  // ---- moving about
  function keys(event) {
    const place = arrowed(event, placeOf(Math.max(view.query - cls, 0), grid), grid);
    if (place) go({ query: cls + cellOf(place, grid) });
    else if (cls && event.key.toLowerCase() === "c") {
      event.preventDefault();
      go({ query: 0 });
    }
  }

  const patchAt = (event) => cellOf(cellAt(event, canvas, grid), grid);

  function hover(place) {
    hovered = place;
    read();
  }

  // ---- drawing
  const nameOf = (query) => (query < cls ? "class token" : placeName(placeOf(query - cls, grid)));
  const mapName = () => view.layer === "rollout" ? "Rollout" : `Layer ${view.layer}, ${headName(view.head)}`;

  function draw() {
    image.value = view.image;
    training.show();
    token.setAttribute("aria-pressed", view.query < cls);
    marker.hidden = view.query < cls;
    layCell(marker, placeOf(view.query - cls, grid), grid);
    overview.mark(view);
    const [data, pixels] = [slab(view), store.get(`image/${view.image}`)];
    picture.setAttribute("aria-busy", !data || !pixels);
    if (!data || !pixels) {
      words.textContent = "Asking the kernel for this view; if nothing comes, it is busy or gone.";
      return;
    }
    const map = mapOf(data, overview.which(view));
    paint(canvas, overlaid(pixels, map.codes, table, strength, sizes[view.image], grid), ...sizes[view.image]);
    fit(canvas, ...sizes[view.image], 416);
    const place = `${view.step}/${view.image}/${view.query}`;
    if (!shown || shown.place !== place) overview.draw((index) => coloured(mapOf(data, index).codes, table));
    shown = { map, place };
    const code = map.largest ? clamp(Math.round((map.cls / map.largest) * 255), 0, 255) : 255;
    Object.assign(token.style, tinted(code, table));
    scale.high.textContent = number(map.largest);
    words.textContent = `${mapName()}. Query: ${nameOf(view.query)}.`;
    canvas.setAttribute("aria-label", `${labels[view.image]}. ${words.textContent} Largest patch weight ${number(map.largest)} at ${nameOf(cls + map.codes.indexOf(255))}.`);
    read();
  }

  // The number under the pointer, in words and as a tick on the scale.
  function read() {
    pointer.hidden = true;
    scale.point(null);
    if (!shown || hovered === null) {
      reading.textContent = shown ? `Largest ${number(shown.map.largest)} at ${nameOf(cls + shown.map.codes.indexOf(255))} · point to read others` : "";
      return;
    }
    const { map } = shown;
    const weight = hovered === "cls" ? map.cls : (map.codes[hovered] * map.largest) / 255;
    const place = hovered === "cls" ? "class token" : placeName(placeOf(hovered, grid));
    reading.textContent = `${place[0].toUpperCase()}${place.slice(1)}: `
      + `${number(weight)}, ${(weight * (cells + cls)).toFixed(1)} × an even share`;
    if (hovered !== "cls") layCell(pointer, placeOf(hovered, grid), grid);
    pointer.hidden = hovered === "cls";
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
    pen.fillText(`${words.textContent} ${labels[view.image]}${steps.length > 1 ? `, step ${steps[view.step]}` : ""}`, 0, height + 80, width);
    pen.textAlign = "right";
    pen.fillText(scale.high.textContent, width, height + 40);
    h("a", { href: sheet.toDataURL("image/png"), download: `attention_${mapName()}_query_${view.query}.png`.replace(/[ ,]+/g, "_").toLowerCase() }).click();
  }

  el.append(frame("attention", "Attention explorer",
    h("div", {}, picture, scale.element, words, reading),
    h("div", { className: "vlm-side" },
      h("div", { className: "vlm-bar" }, ...(labels.length > 1 ? [labelled("Image", image)] : []), ...overview.controls,
        ...(cls ? [labelled("Query", token)] : [])),
      h("div", { className: "vlm-scroll" }, overview.element),
      ...(steps.length > 1 ? [h("div", { className: "vlm-bar" }, ...training.controls)] : []),
      h("div", { className: "vlm-bar" }, labelled("Overlay", overlay), save))));
  draw();
  const end = subscribe(model, { "msg:custom": store.receive, ...heard });
  return () => { training.stop(); end(); };
}

export default { render };
