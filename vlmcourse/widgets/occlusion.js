const SHOWN = 352; // pixels of the picture's longer side on the screen

function build(model) {
  const { size, grid, paper, questions } = model.get("shape");
  const cells = grid[0] * grid[1];
  const table = bytes(model.get("colours"));
  const store = new Store(model, draw);
  const { now, said, answered, set, news: progress, heard, stop } = requests(model, draw, () => { if (!question.typing()) question.input.value = now.question; });
  const hover = hovering(read);
  let at = [0, 0]; // where the keys are
  let brush = null; // while the pointer is down: whether it covers or uncovers

  const covered = (cell) => now.covered.includes(cell);
  const ordered = (patches) => [...new Set(patches)].sort((a, b) => a - b);
  const cover = (patches) => { if (String(patches) !== String(now.covered)) set({ covered: patches }); };
  const turn = (cell, on) => cover(on ? ordered([...now.covered, cell]) : now.covered.filter((other) => other !== cell));
  const evidence = () => questions.find(({ text }) => text === now.question)?.evidence ?? [];

  // ---- the picture
  const covers = count(cells).map(() => h("span"));
  const over = h("div", { className: "vlm-names", "aria-hidden": "true", style: `grid-template: repeat(${grid[0]}, 1fr) / repeat(${grid[1]}, 1fr)` }, ...covers);
  const [marker, frames] = [h("div", { className: "vlm-box", hidden: true }), div("vlm-frames")];
  const { area, canvas, point } = cellPicture({ grid, label: "Picture: arrow keys move from patch to patch, Space or Enter covers one and uncovers it",
    at: () => at, hover, choose: (place) => { at = place; draw(); }, keys }, over, frames, marker);
  Object.assign(area.style, { touchAction: "none" });
  area.addEventListener("focus", () => { marker.hidden = false; });
  area.addEventListener("blur", () => { marker.hidden = true; });
  area.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    const cell = cellOf(cellAt(event, canvas, grid), grid);
    brush = !covered(cell);
    area.setPointerCapture(event.pointerId);
    turn(cell, brush);
  });
  area.addEventListener("pointermove", (event) => { if (brush !== null) turn(cellOf(cellAt(event, canvas, grid), grid), brush); });
  for (const end of ["pointerup", "pointercancel"]) area.addEventListener(end, () => { brush = null; });

  function keys(event) {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    const cell = cellOf(at, grid);
    turn(cell, !covered(cell));
  }

  const framing = h("input", { type: "checkbox", onchange: () => draw() });
  const mapping = h("input", { type: "checkbox", onchange: () => set({ map: mapping.checked }) });
  const [clearing, without, only] = [
    button("Uncover all", () => cover([])),
    button("Cover the evidence", () => cover(evidence())),
    button("Cover all but the evidence", () => cover(count(cells).filter((cell) => !evidence().includes(cell))))];
  const [scale, status, reading] = [colourScale(table), says("vlm-words"), div("vlm-reading")];

  // The occlusion map as codes of its largest fall, or null; what rises counts as 0.
  function map() {
    const data = now.map && said().question === now.question ? model.get("fall") : null;
    if (!data || !data.byteLength) return null;
    const falls = floats(data);
    const top = Math.max(0, ...falls);
    return { falls, top, codes: Uint8Array.from(falls, (fall) => (top ? Math.round((255 * Math.max(0, fall)) / top) : 0)) };
  }

  function drawPicture(shown) {
    const sent = store.get("image");
    if (!sent) return;
    const pixels = shown ? overlaid(sent, shown.codes, table, USUAL, size, grid) : sent.slice();
    const [high, wide] = [size[0] / grid[0], size[1] / grid[1]];
    for (const cell of now.covered) {
      const [row, column] = placeOf(cell, grid);
      for (let y = row * high; y < (row + 1) * high; y++) {
        for (let x = column * wide; x < (column + 1) * wide; x++) pixels.set(paper, 3 * (y * size[1] + x));
      }
    }
    paint(canvas, pixels, ...size);
    fit(canvas, ...size, SHOWN);
  }

  function drawFrames() {
    const boxes = framing.checked ? (questions.find(({ text }) => text === now.question)?.boxes ?? []) : [];
    frames.replaceChildren(...boxes.map(([left, top, right, bottom]) =>
      lay(div("vlm-frame"), left / size[1], top / size[0], (right - left) / size[1], (bottom - top) / size[0])));
  }

  // ---- the question and its answers
  const question = asking({ placeholder: "ask about the picture", label: "Question about the picture",
    ask: (text) => { if (text !== now.question) set({ question: text }); } });
  question.input.value = now.question;
  const chips = questions.map(({ text }) => question.suggestion(text));
  const verdict = h("div", { className: "vlm-answer", "aria-live": "polite" });
  const changed = div("vlm-reading");
  const list = h("div", { className: "vlm-chances", role: "list", "aria-label": "Probabilities of the answers" });
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });
  const news = div("vlm-reading");
  let bars = [];

  const best = (rows, by) => rows.reduce((top, row) => (row[by] > top[by] ? row : top));

  function drawAnswers() {
    const { rows, error } = said();
    if (bars.length !== rows.length) {
      bars = rows.map(() => {
        const [text, bar, value, before] = [h("span"), meter(), h("span"), div("vlm-before")];
        bar.element.append(before);
        return { text, bar, value, before, row: h("div", { className: "vlm-chance", role: "listitem" }, text, bar.element, value) };
      });
      list.replaceChildren(...bars.map(({ row }) => row));
    }
    const [likely, first] = [best(rows, "p"), best(rows, "before")];
    rows.forEach(({ text, p, before, right }, n) => {
      const bar = bars[n];
      bar.text.textContent = bar.text.title = text || "∅";
      bar.value.textContent = `${right ? "✓ " : ""}${percent(p)}`;
      bar.bar.fill(p);
      bar.before.style.left = `${100 * before}%`;
      bar.row.classList.toggle("vlm-best", rows[n] === likely);
      bar.row.classList.toggle("vlm-rest", n === rows.length - 1);
    });
    verdict.textContent = `${likely.text || "∅"} ${percent(likely.p)}`;
    changed.textContent = likely === first ? "The likeliest answer is the same as with nothing covered."
      : `It changed its mind: with nothing covered, ${first.text || "∅"} is likeliest.`;
    changed.classList.toggle("vlm-differs", likely !== first);
    problem.hidden = !error || !answered();
    problem.textContent = `⚠ ${error}`;
  }

  // The patch under the pointer, otherwise where the keys are.
  function read() {
    point(hover.place);
    const place = hover.place ?? at;
    const [cell, shown] = [cellOf(place, grid), map()];
    const fall = shown?.falls[cell];
    scale.point(shown?.top ? Math.max(0, fall) / shown.top : null);
    const alone = shown ? `; covered alone, ${said().rows[0].text || "∅"} ${fall < 0 ? "rises" : "falls"} by ${number(Math.abs(fall))}` : "";
    reading.textContent = `${placeName(place)}: ${covered(cell) ? "covered" : "shown"}${alone}`;
  }

  function draw() {
    const shown = map();
    drawPicture(shown);
    drawFrames();
    covers.forEach((it, cell) => it.classList.toggle("vlm-covered", covered(cell)));
    layCell(marker, at, grid);
    mapping.checked = now.map;
    scale.element.hidden = !shown;
    if (shown) scale.high.textContent = number(shown.top);
    status.textContent = `${now.covered.length} of ${cells} patches covered`;
    canvas.setAttribute("aria-label", `${status.textContent}${now.covered.length ? `: ${now.covered.slice(0, 8).map((cell) => placeName(placeOf(cell, grid))).join("; ")}` : ""}`);
    clearing.disabled = !now.covered.length;
    without.disabled = only.disabled = framing.disabled = !evidence().length;
    without.title = only.title = evidence().length ? "" : "Where the evidence lies is not known for this question";
    chips.forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === now.question));
    drawAnswers();
    read();
    news.textContent = progress();
    root.setAttribute("aria-busy", !answered());
  }

  const root = frame("occlusion", "Live occlusion",
    div("vlm-board", area, status, reading, scale.element,
      div("vlm-bar", clearing, without, only),
      div("vlm-bar", labelled("Frame the evidence", framing), labelled("Occlusion map", mapping)),
      div("vlm-axis", "Click a patch or sweep over several. With keys: arrows, then Space.")),
    div("vlm-side", question.input, div("vlm-bar vlm-chips", ...chips), verdict, changed, list,
      legend([h("span", { className: "vlm-before-sign" }), "with nothing covered"]), problem, news));
  return { root, draw, heard: { "msg:custom": store.receive, ...heard }, stop: () => { stop(); question.stop(); } };
}
