function build(model) {
  const tokens = model.get("tokens");
  const { layers, heads, causal } = model.get("shape");
  const size = tokens.length;
  const table = bytes(model.get("colours"));
  const [codes, largest] = [bytes(model.get("blobs").codes), floats(model.get("blobs").largest)];
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(read);

  // ---- the data: one row is what one query reads, as codes of its own largest weight
  const rowOf = (query, map = overview.which(view)) => ({ top: largest[map * size + query], codes: codes.subarray((map * size + query) * size, (map * size + query + 1) * size) });
  const weight = (query, key) => { const row = rowOf(query); return (row.codes[key] * row.top) / 255; };
  const matrixOf = (map) => coloured(Uint8Array.from(count(size).flatMap((query) => [...rowOf(query, map).codes])), table);
  const masked = (query, key) => causal && key > query && weight(query, key) === 0;

  const overview = headGrid({ layers, heads, extra: null, height: size, width: size, scaled: "Small maps: in every row, yellow is its own largest weight", go });
  const writing = playback({ axis: "query", label: "Query", last: size - 1, frame: 500, name: (query) => `token ${query}` }, view, go);
  const ask = (query) => { writing.stop(); go({ query }); };

  const chips = tokens.map((token, i) => {
    const [bar, word] = [h("span", { className: "vlm-rise" }), h("span", { className: "vlm-word" }, visible(token))];
    const chip = h("button", { type: "button", className: "vlm-chip", onclick: () => ask(i), onpointerenter: () => hover([view.query, i]),
      onpointerleave: () => hover(null) }, h("span", { className: "vlm-room" }, bar), word);
    return { chip, bar, word };
  });
  const keys = walking(() => chips.map(({ chip }) => chip), () => view.query, ask);
  const text = h("div", { className: "vlm-text", role: "group", "aria-label": "Tokens; arrow keys choose the query", onkeydown: keys }, ...chips.map(({ chip }) => chip));
  const [scale, words, reading] = [colourScale(table), says("vlm-words"), div("vlm-reading")];
  const warning = h("div", { className: "vlm-warning", role: "status", hidden: true });

  // ---- the whole matrix, and every head at a glance
  const names = () => (size > 32 ? [] : tokens).map((token) => h("span", { className: "vlm-axis", title: token }, visible(token)));
  const map = cellMap({ size, side: 320, label: "Attention matrix, queries down, keys across: arrow keys up and down choose the query",
    rows: names(), columns: names(), at: () => [view.query, 0], hover, choose: ([query]) => ask(query) });
  const chosen = div("vlm-chosen");
  map.area.append(chosen);

  function draw() {
    const { query } = view;
    const row = rowOf(query);
    writing.show();
    press(chips.map(({ chip }) => chip), query);
    chips.forEach(({ chip, bar, word }, key) => {
      const [code, hidden] = [row.codes[key], masked(query, key)];
      const look = hidden ? { background: "", color: "" } : tinted(code, table);
      chip.classList.toggle("vlm-masked", hidden);
      chip.setAttribute("aria-label", `token ${key}, ${tokens[key]}: ${hidden ? "masked" : number(weight(query, key))}`);
      Object.assign(bar.style, { height: hidden ? "0" : `${(100 * code) / 255}%`, background: look.background });
      Object.assign(word.style, look);
    });
    overview.mark(view);
    drawMatrix();
    scale.high.textContent = number(row.top);
    words.textContent = `Layer ${view.layer}, ${headName(view.head)}. Query: token ${query}, ${visible(tokens[query])}.`;
    read();
  }

  // Masked cells stay clear, so that the hatching behind the canvas shows; a weight in the future keeps its colour.
  function drawMatrix() {
    const { query } = view;
    paint(map.canvas, matrixOf(overview.which(view)), size, size);
    const pen = map.canvas.getContext("2d");
    let leaks = 0;
    for (const q of count(size)) {
      for (const k of count(size).slice(q + 1)) {
        if (masked(q, k)) pen.clearRect(k, q, 1, 1);
        else if (causal) leaks++;
      }
    }
    warning.hidden = leaks === 0;
    warning.textContent = `⚠ ${leaks} weights read tokens that are not yet written`;
    lay(chosen, 0, query / size, 1, 1 / size);
    const [best] = strongest(query);
    map.canvas.setAttribute("aria-label", `${words.textContent} Reads ${tokens[best]} most, ${number(weight(query, best))}.`);
  }

  const strongest = (query) => count(size).sort((a, b) => weight(query, b) - weight(query, a));

  // The number under the pointer, in words and as a tick on the scale; otherwise where the query reads most.
  function read() {
    const [query, key] = hover.place ?? [view.query, strongest(view.query)[0]];
    const [value, share] = [weight(query, key), causal ? query + 1 : size];
    reading.textContent = `${visible(tokens[query])} reads ${visible(tokens[key])} (token ${key}): `
      + (masked(query, key) ? "masked, not yet written" : `${number(value)}, ${(value * share).toFixed(1)} × an even share`)
      + (hover.place ? "" : " · the most; point to read others");
    scale.point(hover.place && query === view.query ? value / rowOf(query).top : null);
  }

  overview.draw(matrixOf);
  const root = frame("text-attention", "Attention of a text",
    div("vlm-side", div("vlm-bar", ...overview.controls), text, scale.element, words, reading, warning, div("vlm-bar", ...writing.controls)),
    div("vlm-side", map.element, overview.element));
  return { root, draw, heard, stop: writing.stop };
}
