const FRAME_MS = 500; // one token of the playback

function render({ model, el }) {
  const tokens = model.get("tokens");
  const { layers, heads, causal, prompt } = model.get("shape");
  const size = tokens.length;
  const table = bytes(model.get("colours"));
  const codes = bytes(model.get("blobs").codes);
  const largest = floats(model.get("blobs").largest);
  let view = { ...model.get("view") };
  let [hovered, timer] = [null, null];
  const keep = keeper(model, "view");

  // ---- the data: one row is what one query reads, as codes of its own largest weight
  const rowOf = (query, map = overview.which(view)) => ({ top: largest[map * size + query], codes: codes.subarray((map * size + query) * size, (map * size + query + 1) * size) });
  const weight = (query, key) => { const row = rowOf(query); return (row.codes[key] * row.top) / 255; };
  const masked = (query, key) => causal && key > query && weight(query, key) === 0;

  // ---- the controls
  const pick = (name) => (event) => go({ [name]: event.target.value === "mean" ? "mean" : +event.target.value });
  const named = (names) => names.map((name) => [name, String(name)]);
  const [layer, head] = [choice(named(count(layers)), pick("layer")), choice(named([...count(heads), "mean"]), pick("head"))];
  const time = h("input", { type: "range", min: 0, max: size - 1, oninput: () => { go({ query: +time.value }); pause(); } });
  const play = h("button", { type: "button", className: "vlm-button", onclick: () => (timer ? pause() : start()) });
  const timeName = h("output");

  // ---- the text
  const chips = tokens.map((token, i) => {
    const bar = h("span", { className: "vlm-rise" });
    const chip = h("button", { type: "button", className: `vlm-chip${i >= prompt ? " vlm-written" : ""}`, onclick: () => { pause(); go({ query: i }); },
      onpointerenter: () => hover([view.query, i]), onpointerleave: () => hover(null) }, h("span", { className: "vlm-room" }, bar), h("span", { className: "vlm-word" }, visible(token)));
    return { chip, bar, word: chip.lastChild };
  });
  const text = h("div", { className: "vlm-text", role: "group", "aria-label": "Tokens; arrow keys choose the query", onkeydown: keys }, ...chips.map(({ chip }) => chip));
  const scale = colourScale(table);
  const words = h("div", { className: "vlm-words", role: "status" });
  const reading = h("div", { className: "vlm-reading" });
  const warning = h("div", { className: "vlm-warning", role: "status", hidden: true });

  // ---- the whole matrix, and every head at a glance
  const names = () => tokens.map((token) => h("span", { className: "vlm-axis", title: token }, visible(token)));
  const map = cellMap({ size, side: 320, label: "Attention matrix, queries down, keys across: arrow keys up and down choose the query",
    rows: names(), columns: names(), at: () => [view.query, 0], hover: (place) => hover(place), choose: ([query]) => { pause(); go({ query }); } });
  if (map.cell < 10) map.element.classList.add("vlm-nameless");
  const chosen = h("div", { className: "vlm-chosen" });
  map.area.append(chosen);
  const overview = headGrid({ layers, heads, extra: null, height: size, width: size, go });

  // ---- moving about
  function go(change) {
    view = { ...view, ...change };
    draw();
    keep(view);
  }

  function keys(event) {
    const to = { Home: 0, End: size - 1, ArrowLeft: view.query - 1, ArrowRight: view.query + 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    pause();
    go({ query: clamp(to, 0, size - 1) });
    chips[view.query].chip.focus();
  }

  function start() {
    if (view.query === size - 1) go({ query: prompt < size ? prompt - 1 : 0 });
    timer = setInterval(() => {
      go({ query: Math.min(view.query + 1, size - 1) });
      if (view.query === size - 1) pause();
    }, FRAME_MS);
    draw();
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    draw();
  }

  function hover(place) {
    hovered = place;
    read();
  }

  // ---- drawing
  function draw() {
    const { query } = view;
    const row = rowOf(query);
    [layer.value, head.value, time.value] = [view.layer, view.head, query];
    [play.textContent, timeName.textContent] = [timer ? "Pause" : "Play", `token ${query}`];
    chips.forEach(({ chip, bar, word }, key) => {
      const [code, hidden] = [row.codes[key], masked(query, key)];
      const colour = table.subarray(3 * code, 3 * code + 3).join();
      chip.classList.toggle("vlm-masked", hidden);
      chip.setAttribute("aria-pressed", key === query);
      chip.setAttribute("aria-label", `token ${key}, ${tokens[key]}: ${hidden ? "masked" : number(weight(query, key))}`);
      chip.tabIndex = key === query ? 0 : -1;
      Object.assign(bar.style, { height: hidden ? "0" : `${(100 * code) / 255}%`, background: `rgb(${colour})` });
      Object.assign(word.style, hidden ? { background: "", color: "" } : { background: `rgb(${colour})`, color: code > 140 ? "#1f2933" : "#ffffff" });
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
    const cells = count(size).flatMap((q) => [...rowOf(q).codes]);
    paint(map.canvas, coloured(Uint8Array.from(cells), table), size, size);
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
    const [query, key] = hovered ?? [view.query, strongest(view.query)[0]];
    const [value, share] = [weight(query, key), causal ? query + 1 : size];
    reading.textContent = `${visible(tokens[query])} reads ${visible(tokens[key])} (token ${key}): `
      + (masked(query, key) ? "masked, not yet written" : `${number(value)}, ${(value * share).toFixed(1)} × an even share`)
      + (hovered ? "" : " · the most; point to read others");
    scale.point(hovered && query === view.query ? value / rowOf(query).top : null);
  }

  overview.draw((index) => coloured(Uint8Array.from(count(size).flatMap((q) => [...rowOf(q, index).codes])), table));
  el.append(frame("text-attention", "Attention of a text",
    h("div", { className: "vlm-side" },
      h("div", { className: "vlm-bar" }, labelled("Layer", layer), labelled("Head", head)),
      text, scale.element, words, reading, warning,
      h("div", { className: "vlm-bar" }, play, labelled("Query", time), timeName)),
    h("div", { className: "vlm-side" }, map.element, h("div", { className: "vlm-scroll" }, overview.element))));
  draw();
  const end = subscribe(model, { "change:view": () => { view = { ...model.get("view") }; draw(); } });
  return () => { clearInterval(timer); end(); };
}

export default { render };
