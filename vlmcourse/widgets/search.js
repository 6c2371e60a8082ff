const REST_MS = 120; // typing that rests this long is a query
const COLUMNS = 6;

function render({ model, el }) {
  const { suggestions, attribution, count, size: [height, width] } = model.get("texts");
  let [typing, shown] = [null, 0];

  // ---- the question
  const input = h("input", { type: "search", className: "vlm-search-box", placeholder: "describe a picture", "aria-label": "Search pictures by text", spellcheck: false, value: model.get("query"),
    oninput: () => { clearTimeout(typing); typing = setTimeout(ask, REST_MS); draw(); },
    onkeydown: (event) => { if (event.key === "Enter") ask(); } });
  const chips = suggestions.map((text) => h("button", { type: "button", className: "vlm-suggestion", onclick: () => { input.value = text; ask(); } }, text));
  const status = h("div", { className: "vlm-words", role: "status" });
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });
  const reading = h("div", { className: "vlm-reading" });

  // The kernel is asked once more only when it has answered; ipywidgets keeps the newest of what was typed meanwhile.
  function ask() {
    clearTimeout(typing);
    typing = null;
    if (!remember(model, "query", input.value)) shown = -1;
    draw();
  }

  // ---- the answers
  const tiles = Array.from({ length: 2 * COLUMNS }, (_, place) => {
    const [canvas, bar, score, mark] = [h("canvas"), h("div", { className: "vlm-filled" }), h("span"), h("b", { className: "vlm-mark" })];
    fit(canvas, height, width, 104);
    const tile = h("div", { className: "vlm-tile", role: "listitem", onpointerenter: () => read(place), onpointerleave: () => read(null), onfocus: () => { focus(place); read(place); }, onblur: () => read(null) },
      canvas, h("div", { className: "vlm-meter" }, bar), h("div", { className: "vlm-score" }, score, mark));
    return { tile, canvas, bar, score, mark };
  });
  const grid = h("div", { className: "vlm-tiles", role: "list", "aria-label": "Pictures, best first; arrow keys move", onkeydown: keys }, ...tiles.map(({ tile }) => tile));
  const focus = (chosen) => tiles.forEach(({ tile }, place) => { tile.tabIndex = place === chosen ? 0 : -1; });

  const focused = () => tiles.findIndex(({ tile }) => tile === document.activeElement);

  function keys(event) {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    tiles[clamp(focused() + COLUMNS * step[0] + step[1], 0, model.get("answer").results.length - 1)].tile.focus();
  }

  const say = ({ label, score, right }, place) => `${place + 1}. ${label}: ${score.toFixed(3)}${right ? ", as asked" : ""}`;

  // The label of the picture under the pointer, otherwise of the focused one, otherwise where the pictures come from.
  function read(place) {
    const result = model.get("answer").results[place ?? focused()];
    reading.textContent = result ? say(result, place) : attribution;
  }

  function draw() {
    const { query, results, rank, low, high, error } = model.get("answer");
    const pixels = bytes(model.get("pixels"));
    const waiting = input.value !== query;
    grid.setAttribute("aria-busy", waiting);
    problem.hidden = !error || waiting;
    problem.textContent = `⚠ ${error}`;
    status.textContent = waiting ? (typing ? "…" : "Asking the kernel; if nothing comes, it is busy or gone.") : told(query, results.length, rank);
    tiles.forEach(({ tile, canvas, bar, score, mark }, place) => {
      const result = results[place];
      tile.hidden = !result;
      if (!result) return;
      paint(canvas, pixels.subarray(place * height * width * 3, (place + 1) * height * width * 3), height, width);
      bar.style.width = `${(100 * (result.score - low)) / (high - low || 1)}%`;
      [score.textContent, mark.textContent] = [result.score.toFixed(3), result.right ? "✓" : ""];
      tile.classList.toggle("vlm-asked", result.right);
      tile.setAttribute("aria-label", say(result, place));
    });
    chips.forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === query));
    read(null);
  }

  const told = (query, found, rank) => !query.trim() ? `${count.toLocaleString("en")} pictures; type what you look for`
    : `Best ${found} of ${count.toLocaleString("en")}${rank ? ` · the picture of that name stands at rank ${rank}` : ""}`;

  focus(0);
  el.append(frame("search", "Text-to-image search",
    h("div", { className: "vlm-bar" }, input, ...chips), status, problem, grid, reading));
  draw();
  return subscribe(model, { "change:answer": draw, "change:query": () => { if (!typing) input.value = model.get("query"); draw(); } });
}

export default { render };
