const COLUMNS = 6;

function build(model) {
  const { suggestions, attribution, count: pictures, size: [height, width] } = model.get("texts");

  // The kernel is asked once more only when it has answered; ipywidgets keeps the newest of what was typed meanwhile.
  const ask = (query) => { remember(model, "query", query); draw(); };
  const box = asking({ placeholder: "describe a picture", label: "Search pictures by text", ask, typed: draw });
  box.input.value = model.get("query");
  const chips = suggestions.map(box.suggestion);
  const [status, reading] = [says("vlm-words"), div("vlm-reading")];
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });

  const tiles = count(2 * COLUMNS).map((place) => {
    const [canvas, bar, score, mark] = [fit(h("canvas"), height, width, 104), meter(), h("span"), h("b", { className: "vlm-mark" })];
    const tile = h("div", { className: "vlm-tile", role: "listitem", ...pointed(read, place), onfocus: () => { focus(place); read(place); }, onblur: () => read(null) },
      canvas, bar.element, div("vlm-score", score, mark));
    return { tile, canvas, bar, score, mark };
  });
  const found = () => model.get("answer").results.map((_, place) => tiles[place].tile);
  const keys = walking(found, () => focused(), () => {}, COLUMNS);
  const grid = h("div", { className: "vlm-tiles", role: "list", "aria-label": "Pictures, best first; arrow keys move", onkeydown: keys }, ...tiles.map(({ tile }) => tile));
  const focus = (chosen) => tiles.forEach(({ tile }, place) => { tile.tabIndex = place === chosen ? 0 : -1; });
  const focused = () => tiles.findIndex(({ tile }) => tile === document.activeElement);

  const say = ({ label, score, right }, place) => `${place + 1}. ${label}: ${score.toFixed(3)}${right ? ", as asked" : ""}`;

  // The label of the picture under the pointer, otherwise of the focused one, otherwise where the pictures come from.
  function read(place) {
    const result = model.get("answer").results[place ?? focused()];
    reading.textContent = result ? say(result, place) : attribution;
  }

  function draw() {
    const { query, results, rank, low, high, error } = model.get("answer");
    const pixels = bytes(model.get("pixels"));
    const waiting = box.input.value !== query;
    grid.setAttribute("aria-busy", waiting);
    problem.hidden = !error || waiting;
    problem.textContent = `⚠ ${error}`;
    status.textContent = waiting ? (box.typing() ? "…" : WAITING) : told(query, results.length, rank);
    tiles.forEach(({ tile, canvas, bar, score, mark }, place) => {
      const result = results[place];
      tile.hidden = !result;
      if (!result) return;
      paint(canvas, pixels.subarray(place * height * width * 3, (place + 1) * height * width * 3), height, width);
      bar.fill((result.score - low) / (high - low || 1));
      [score.textContent, mark.textContent] = [result.score.toFixed(3), result.right ? "✓" : ""];
      tile.classList.toggle("vlm-right", result.right);
      tile.setAttribute("aria-label", say(result, place));
    });
    chips.forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === query));
    read(null);
  }

  const told = (query, found, rank) => !query.trim() ? `${pictures.toLocaleString("en")} pictures; type what you look for`
    : `Best ${found} of ${pictures.toLocaleString("en")}${rank ? ` · the picture of that name stands at rank ${rank}` : ""}`;

  focus(0);
  const root = frame("search", "Text-to-image search", div("vlm-bar", box.input, ...chips), status, problem, grid, reading);
  return { root, draw, heard: { "change:answer": draw, "change:query": () => { if (!box.typing()) box.input.value = model.get("query"); draw(); } }, stop: box.stop };
}
