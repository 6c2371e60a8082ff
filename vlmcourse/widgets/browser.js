const STEPS = 100; // of the sliders of a cut
const [CHART_WIDTH, CHART_HEIGHT, OPENED] = [300, 64, 288];

function build(model) {
  const { title, count: all, page: size, side, scores, tags } = model.get("shape");
  const { view, go, heard } = viewer(model, draw);
  const answer = () => model.get("answer");
  const choose = (change) => go({ page: 0, ...change });
  const many = (n) => n.toLocaleString("en");

  // ---- which rows, and in what order
  const search = asking({ placeholder: "words in the texts", label: "Search the texts", ask: (text) => choose({ text }) });
  const by = choice([["", "as they stand"], ...scores.map((name, i) => [i, name])], () => choose({ by: by.value === "" ? null : +by.value }));
  const direction = button("", () => choose({ down: !view.down }));
  const chips = tags.map(([name, values], tag) => values.map((value, code) =>
    button("", () => choose({ tags: view.tags.map((old, at) => (at === tag ? (old === code ? null : code) : old)) }), { className: "vlm-suggestion", "data-name": value })));
  const groups = tags.map(([name], tag) => h("div", { className: "vlm-bar", role: "group", "aria-label": name }, h("b", {}, name), ...chips[tag]));

  // ---- the cut of the score that is sorted by
  const chart = h("canvas", { role: "img" });
  const ends = [0, 1].map((end) => {
    const name = `${end ? "To" : "From"}`;
    const bar = slider(STEPS, () => cut(end, +bar.value === end * STEPS ? null : atStep(+bar.value)), { "aria-label": `${name}, by slider` });
    const box = h("input", { type: "number", step: "any", className: "vlm-cut", "aria-label": name, onchange: () => cut(end, box.value === "" ? null : +box.value) });
    return { bar, box, row: h("div", { className: "vlm-end" }, h("span", {}, name.toLowerCase()), bar, box) };
  });
  const clear = button("Clear all", () => { search.input.value = ""; choose({ text: "", cuts: scores.map(() => [null, null]), tags: tags.map(() => null) }); });
  const unknown = div("vlm-reading");
  const cutting = h("div", { className: "vlm-cutting" }, h("div", {}, chart, unknown), h("div", {}, ...ends.map(({ row }) => row)));
  const atStep = (step) => { const { low, high } = answer().bars; return +(low + ((high - low) * step) / STEPS).toPrecision(4); };

  function cut(end, value) {
    const cuts = view.cuts.map((pair) => [...pair]);
    cuts[view.by][end] = value;
    choose({ cuts });
  }

  // ---- one page of small pictures
  const [status, summary] = [says("vlm-words"), div("vlm-summary")];
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });
  const tiles = count(size).map((place) => {
    const [canvas, score, mark] = [fit(h("canvas"), side, side, 76), h("span"), h("b", { className: "vlm-mark" })];
    const tile = button(canvas, () => open(place), { className: "vlm-thumb vlm-row" });
    tile.append(div("vlm-score", score, mark));
    return { tile, canvas, score, mark };
  });
  const there = () => tiles.slice(0, answer().rows.length).map(({ tile }) => tile);
  const columns = () => there().filter((tile, _, [first]) => tile.offsetTop === first.offsetTop).length || 1;
  const grid = h("div", { className: "vlm-rows-found", role: "group", "aria-label": "Rows; arrow keys move, Page Up and Page Down turn pages", onkeydown: keys },
    ...tiles.map(({ tile }) => tile));
  const where = h("span", { className: "vlm-where" });
  const turn = (by) => go({ page: clamp(answer().page + by, 0, pages() - 1) });
  const pages = () => Math.max(1, Math.ceil(answer().stay / size));
  const [previous, next] = [[-1, "‹", "Previous page"], [1, "›", "Next page"]].map(([by, arrow, name]) => button(arrow, () => turn(by), { "aria-label": name }));

  const open = (place) => go({ opened: answer().rows[place].number });

  function keys(event) {
    const by = { PageUp: -1, PageDown: 1 }[event.key];
    if (by) {
      event.preventDefault();
      return turn(by);
    }
    const at = there().indexOf(document.activeElement);
    if (at >= 0) walking(there, () => at, open, columns())(event);
  }

  // ---- the opened row
  const [name, facts, fault] = [says("vlm-words"), div("vlm-facts vlm-told"), h("div", { className: "vlm-warning", role: "alert" })];
  const large = h("canvas", { role: "img" });
  const picture = div("vlm-picture", large);
  const opened = h("div", { className: "vlm-side vlm-opened", role: "group", "aria-label": "The opened row" }, name, picture, fault, facts);

  function drawOpened() {
    const row = answer().opened;
    [name.textContent, fault.hidden, fault.textContent] = [row ? `Row ${row.number} ${row.sign}` : "Choose a row to open it", !row?.fault, `⚠ ${row?.fault}`];
    [picture.hidden, facts.hidden] = [!row, !row];
    if (!row) return;
    const [height, width] = row.size;
    paint(fit(large, height, width, OPENED), bytes(model.get("large")), height, width);
    large.setAttribute("aria-label", `Row ${row.number}: ${row.texts.map(([what, text]) => `${what}: ${text}`).join("; ")}`);
    picture.replaceChildren(large, ...row.boxes.map(([left, top, right, bottom]) => lay(div("vlm-box"), left, top, right - left, bottom - top)));
    tabulate(facts, [...row.texts, ...row.scores, ...row.tags]);
  }

  function drawChart(bars) {
    cutting.hidden = !bars;
    if (!bars) return;
    const pen = sharpPen(chart, CHART_WIDTH, CHART_HEIGHT);
    const [wide, most] = [CHART_WIDTH / bars.stay.length, Math.max(1, ...bars.uncut)];
    const x = (value) => clamp((value - bars.edges[0]) / (bars.edges[1] - bars.edges[0]), 0, 1) * CHART_WIDTH;
    for (const [heights, colour] of [[bars.uncut, "#9aa5b1"], [bars.stay, "#5B8C7B"]]) {
      pen.fillStyle = colour;
      heights.forEach((rows, bar) => {
        const tall = rows && Math.max(1.5, (rows / most) * CHART_HEIGHT);
        pen.fillRect(bar * wide, CHART_HEIGHT - tall, wide - 1, tall);
      });
    }
    Object.assign(pen, { strokeStyle: ACCENT, lineWidth: 2 });
    const cuts = view.cuts[view.by];
    cuts.filter((value) => value !== null).forEach((value) => stroke(pen, [[x(value), 0], [x(value), CHART_HEIGHT]]));
    const short = (value) => +value.toPrecision(3);
    chart.setAttribute("aria-label", `Histogram of ${scores[view.by]}, ${short(bars.low)} to ${short(bars.high)}; dark is what stays`);
    unknown.replaceChildren(h("span", {}, `${short(bars.low)}`), h("span", {}, bars.unknown ? `${many(bars.unknown)} without a number` : scores[view.by]), h("span", {}, `${short(bars.high)}`));
    ends.forEach(({ bar, box }, end) => {
      const value = cuts[end];
      bar.disabled = bars.low === bars.high;
      bar.value = value === null ? end * STEPS : clamp(Math.round(((value - bars.low) / (bars.high - bars.low || 1)) * STEPS), 0, STEPS);
      bar.ariaValueText = value === null ? "open" : String(value);
      if (document.activeElement !== box || box.value === "" || value === null) box.value = value ?? "";
      box.placeholder = String(short(end ? bars.high : bars.low));
    });
  }

  function draw() {
    const { rows, stay, page, problem: wrong, groups: counts, bars, summary: lines, view: answered } = answer();
    const waiting = JSON.stringify(answered) !== JSON.stringify(view);
    grid.setAttribute("aria-busy", waiting);
    [problem.hidden, problem.textContent] = [!wrong || waiting, `⚠ ${wrong}`];
    status.textContent = waiting ? WAITING : `${many(stay)} of ${many(all)} rows stay`;
    summary.replaceChildren(...lines.map((line) => h("div", {}, line)));
    if (!search.typing()) search.input.value = view.text;
    by.value = view.by ?? "";
    direction.textContent = view.down ? "largest first" : "smallest first";
    direction.disabled = view.by === null;
    chips.forEach((row, tag) => row.forEach((chip, code) => {
      const chosen = view.tags[tag] === code;
      chip.textContent = `${tags[tag][1][code] || "–"} ${many(counts[tag][code])}`;
      chip.setAttribute("aria-pressed", chosen);
      chip.disabled = !counts[tag][code] && !chosen;
    }));
    clear.disabled = !view.text && view.tags.every((code) => code === null) && view.cuts.flat().every((value) => value === null);
    drawChart(bars);
    const [pixels, one] = [bytes(model.get("small")), side * side * 3];
    tiles.forEach(({ tile, canvas, score, mark }, place) => {
      const row = rows[place];
      tile.hidden = !row;
      if (!row) return;
      paint(canvas, pixels.subarray(place * one, (place + 1) * one), side, side);
      [score.textContent, mark.textContent] = [row.score, row.sign];
      tile.classList.toggle("vlm-right", Boolean(row.sign) && !row.sign.includes("✗"));
      tile.classList.toggle("vlm-wrong", row.sign.includes("✗"));
      tile.setAttribute("aria-label", [`Row ${row.number}: ${row.name}`, row.score, row.sign].filter(Boolean).join(", "));
    });
    const chosen = rows.findIndex(({ number }) => number === view.opened);
    press(there(), chosen);
    if (chosen < 0 && rows.length) tiles[0].tile.tabIndex = 0;
    where.textContent = stay ? `${many(page * size + 1)}–${many(page * size + rows.length)} of ${many(stay)}` : "nothing to show";
    [previous.disabled, next.disabled] = [page === 0, page >= pages() - 1];
    drawOpened();
  }

  const root = frame("browser", title, h("div", { className: "vlm-chooser" },
    div("vlm-bar", search.input, ...when(scores.length, labelled("Sort by", by), direction), clear), ...groups, cutting, status, summary, problem, grid, div("vlm-bar", previous, where, next)), opened);
  return { root, draw, heard: { ...heard, "change:answer": draw }, stop: search.stop };
}
