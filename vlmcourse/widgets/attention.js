function render({ model, el }) {
  const shape = model.get("shape");
  const { rows, columns, cls, layers, heads, rollout, labels, steps, sizes } = shape;
  const table = bytes(model.get("colours"));
  const cells = rows * columns;
  const maps = layers * (heads + 1) + (rollout ? 1 : 0);
  const store = new Store(model, draw);
  let view = { ...model.get("view") };
  let [shown, hovered, strength] = [null, null, 0.6];
  const keep = keeper(model, "view");

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
  const pick = (name) => (event) => go({ [name]: /^\d+$/.test(event.target.value) ? +event.target.value : event.target.value });
  const named = (names) => names.map((name) => [name, String(name)]);
  const layer = choice(named([...count(layers), ...(rollout ? ["rollout"] : [])]), pick("layer"));
  const head = choice(named([...count(heads), "mean"]), pick("head"));
  const image = choice(labels.map((label, i) => [i, label]), pick("image"));
  const overlay = h("input", { type: "range", min: 0, max: 100, step: 5, value: 60, oninput: () => { strength = overlay.value / 100; draw(); } });
  const training = playback(steps, () => view, go, () => slab(view) !== null); // null: the kernel has not answered yet
  const save = h("button", { type: "button", className: "vlm-button", onclick: exportPicture }, "Save PNG");

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

  const overview = headGrid({ layers, heads, extra: rollout ? "rollout" : null, height: rows, width: columns, go });

  // ---- moving about
  function go(change) {
    view = { ...view, ...change };
    draw();
    keep(view);
  }

  function keys(event) {
    const step = ARROWS[event.key];
    if (step) {
      const patch = Math.max(view.query - cls, 0);
      const [row, column] = [Math.floor(patch / columns) + step[0], (patch % columns) + step[1]];
      go({ query: cls + clamp(row, 0, rows - 1) * columns + clamp(column, 0, columns - 1) });
    } else if (cls && event.key.toLowerCase() === "c") go({ query: 0 });
    else return;
    event.preventDefault();
  }

  function patchAt({ clientX, clientY }) {
    const box = canvas.getBoundingClientRect();
    const row = clamp(Math.floor(((clientY - box.top) / box.height) * rows), 0, rows - 1);
    return row * columns + clamp(Math.floor(((clientX - box.left) / box.width) * columns), 0, columns - 1);
  }

  function hover(place) {
    hovered = place;
    read();
  }

  // ---- drawing
  const placeName = (query) => (query < cls ? "class token" : `row ${Math.floor((query - cls) / columns)}, column ${(query - cls) % columns}`);
  const mapName = () => view.layer === "rollout" ? "Rollout" : `Layer ${view.layer}, ${headName(view.head)}`;

  function draw() {
    [layer.value, head.value, image.value] = [view.layer, view.head, view.image];
    head.disabled = view.layer === "rollout";
    training.show();
    token.setAttribute("aria-pressed", view.query < cls);
    marker.hidden = view.query < cls;
    const patch = view.query - cls;
    lay(marker, (patch % columns) / columns, Math.floor(patch / columns) / rows, 1 / columns, 1 / rows);
    overview.mark(view);
    const [data, pixels] = [slab(view), store.get(`image/${view.image}`)];
    picture.setAttribute("aria-busy", !data || !pixels);
    if (!data || !pixels) {
      words.textContent = "Asking the kernel for this view; if nothing comes, it is busy or gone.";
      return;
    }
    const map = mapOf(data, overview.which(view));
    paint(canvas, overlaid(pixels, map.codes, table, strength, sizes[view.image], [rows, columns]), ...sizes[view.image]);
    fit(canvas, ...sizes[view.image], 416);
    const place = `${view.step}/${view.image}/${view.query}`;
    if (!shown || shown.place !== place) overview.draw((index) => coloured(mapOf(data, index).codes, table));
    shown = { map, place };
    const code = map.largest ? clamp(Math.round((map.cls / map.largest) * 255), 0, 255) : 255;
    token.style.background = `rgb(${table.subarray(3 * code, 3 * code + 3).join()})`;
    token.style.color = code > 140 ? "#1f2933" : "#ffffff";
    scale.high.textContent = number(map.largest);
    words.textContent = `${mapName()}. Query: ${placeName(view.query)}.`;
    canvas.setAttribute("aria-label", `${labels[view.image]}. ${words.textContent} Largest patch weight ${number(map.largest)} at ${placeName(cls + map.codes.indexOf(255))}.`);
    read();
  }

  // The number under the pointer, in words and as a tick on the scale.
  function read() {
    pointer.hidden = true;
    scale.point(null);
    if (!shown || hovered === null) {
      reading.textContent = shown ? `Largest ${number(shown.map.largest)} at ${placeName(cls + shown.map.codes.indexOf(255))} · point to read others` : "";
      return;
    }
    const { map } = shown;
    const weight = hovered === "cls" ? map.cls : (map.codes[hovered] * map.largest) / 255;
    reading.textContent = `${hovered === "cls" ? "Class token" : `Row ${Math.floor(hovered / columns)}, column ${hovered % columns}`}: `
      + `${number(weight)}, ${(weight * (cells + cls)).toFixed(1)} × an even share`;
    if (hovered !== "cls") lay(pointer, (hovered % columns) / columns, Math.floor(hovered / columns) / rows, 1 / columns, 1 / rows);
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
      const patch = view.query - cls;
      Object.assign(pen, { strokeStyle: "#D55E00", lineWidth: 6 });
      pen.strokeRect(((patch % columns) * width) / columns, (Math.floor(patch / columns) * height) / rows, width / columns, height / rows);
    }
    Object.assign(pen, { fillStyle: "#1f2933", font: "24px system-ui, sans-serif", textBaseline: "top" });
    pen.fillText("0", 0, height + 40);
    pen.fillText(`${words.textContent} ${labels[view.image]}${steps.length > 1 ? `, step ${steps[view.step]}` : ""}`, 0, height + 80, width);
    pen.textAlign = "right";
    pen.fillText(scale.high.textContent, width, height + 40);
    h("a", { href: sheet.toDataURL("image/png"), download: `attention_${mapName()}_query_${view.query}.png`.replace(/[ ,]+/g, "_").toLowerCase() }).click();
  }

  el.append(frame("attention", "Attention explorer",
    h("div", {}, picture, scale.element, words, reading),
    h("div", { className: "vlm-side" },
      h("div", { className: "vlm-bar" }, ...(labels.length > 1 ? [labelled("Image", image)] : []), labelled("Layer", layer), labelled("Head", head),
        ...(cls ? [labelled("Query", token)] : [])),
      h("div", { className: "vlm-scroll" }, overview.element),
      ...(steps.length > 1 ? [h("div", { className: "vlm-bar" }, ...training.controls)] : []),
      h("div", { className: "vlm-bar" }, labelled("Overlay", overlay), save))));
  draw();
  const end = subscribe(model, { "msg:custom": store.receive, "change:view": () => { view = { ...model.get("view") }; draw(); } });
  return () => { training.stop(); end(); };
}

export default { render };
