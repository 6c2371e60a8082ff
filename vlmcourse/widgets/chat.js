const SHOWN = 256; // pixels on the screen

function build(model) {
  const { name, questions, side, count: pictures, best, largest: most } = model.get("texts");
  const table = bytes(model.get("colours"));
  const { now, said, answered, set, news: progress, heard, stop } = requests(model, draw, () => { line.value = now.question; });
  const grid = [0, 0];
  const hover = hovering(read);
  let [rested, refused] = [null, ""];

  // ---- the picture
  const { area, canvas, point } = cellPicture({ grid, label: "The picture as the model sees it: arrow keys read the attention of each cell",
    at: () => rested ?? [0, -1], hover, choose: (place) => { rested = place; read(); } });
  area.addEventListener("blur", () => { rested = null; read(); });
  fit(canvas, side, side, SHOWN);
  const [scale, reading, title] = [colourScale(table), div("vlm-reading"), div("vlm-words")];
  const attentive = h("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const shown = () => attentive.checked && grid[0] > 0;
  const next = () => set({ number: (Math.max(now.number, -1) + 1) % pictures });
  const file = h("input", { type: "file", className: "vlm-file", accept: "image/*", "aria-label": "Upload a picture of yours", onchange: upload });
  const warning = h("div", { className: "vlm-warning", role: "alert", hidden: true,
    textContent: "Unlike the pictures it learned from: it may be answering by habit." });
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });

  async function upload() {
    const [chosen] = file.files;
    if (!chosen) return;
    refused = chosen.size > most ? `${chosen.name} has ${chosen.size.toLocaleString("en")} bytes, more than ${most.toLocaleString("en")}; scale it down first` : "";
    if (!refused) {
      const data = await chosen.arrayBuffer();
      if (!told(() => model.send({ upload: chosen.name }, undefined, [data]))) refused = "The kernel is gone; start it again to ask about a picture.";
    }
    file.value = ""; // so that the same file can be chosen again
    draw();
  }

  // ---- the question
  const ask = () => { refused = ""; set({ question: line.value }); };
  const line = h("input", { type: "text", className: "vlm-search-box", placeholder: "ask about the picture", "aria-label": "Question about the picture",
    value: now.question, spellcheck: false, onkeydown: (event) => { if (event.key === "Enter") ask(); } });
  const chips = questions.map((text) => button(text, () => { line.value = text; ask(); }, { className: "vlm-suggestion" }));
  const reply = h("span", { className: "vlm-answer", "aria-live": "polite" });
  const bars = count(best).map(() => {
    const [text, bar, value] = [h("span"), meter(), h("span")];
    return { text, bar, value, row: h("div", { className: "vlm-chance", role: "listitem" }, text, bar.element, value) };
  });
  const [log, status] = [h("div", { className: "vlm-log", role: "log", "aria-label": "Conversation" }), div("vlm-reading")];

  function read() {
    const cell = shown() ? hover.place ?? rested : null;
    point(cell);
    scale.point(null);
    if (!cell) {
      reading.textContent = shown() ? `${percent(said().share)} of the attention goes to the picture` : grid[0] ? "" : "This model looks at pictures elsewhere than among the words.";
      return;
    }
    const weight = (bytes(model.get("attention"))[cellOf(cell, grid)] * said().largest) / 255;
    scale.point(said().largest ? weight / said().largest : 0);
    reading.textContent = `${placeName(cell)}: ${number(weight)}`;
  }

  function draw() {
    const it = said();
    if (String(grid) !== String(it.grid)) [hover.place, rested] = [null, null];
    Object.assign(grid, it.grid);
    const picture = bytes(model.get("pixels"));
    paint(canvas, shown() ? overlaid(picture, bytes(model.get("attention")), table, USUAL, [side, side], grid) : picture, side, side);
    canvas.setAttribute("aria-label", `${it.picture}${shown() ? ", under the attention of the answer" : ""}`);
    title.textContent = it.picture;
    scale.element.hidden = !shown();
    scale.high.textContent = number(it.largest);
    reply.textContent = it.answer || "–";
    bars.forEach(({ row, text, bar, value }, n) => {
      const choice = it.choices[n];
      row.style.visibility = choice ? "" : "hidden";
      if (!choice) return;
      [text.textContent, text.title, value.textContent] = [choice.text, choice.text, percent(choice.p)];
      bar.fill(choice.p);
    });
    warning.hidden = !it.foreign;
    problem.hidden = !(refused || it.error);
    problem.textContent = `⚠ ${refused || it.error}`;
    log.replaceChildren(...it.log.map(([where, asked, answer, p]) => h("div", {}, h("span", {}, `${where}: ${asked} `), h("b", {}, answer), ` (${percent(p)})`)));
    log.scrollTop = log.scrollHeight; // the newest line is the last
    chips.forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === now.question));
    status.textContent = progress();
    read();
    root.setAttribute("aria-busy", !answered());
  }

  const root = frame("chat", `Picture chat with ${name}`,
    div("vlm-stage", title, area, scale.element, reading, div("vlm-bar", button("Next picture", next), labelled("Attention", attentive)),
      labelled("Your own:", file), warning),
    div("vlm-side", div("vlm-bar", line, button("Ask", ask)), div("vlm-bar vlm-chips", ...chips), div("vlm-bar", reply),
      h("div", { className: "vlm-chances", role: "list", "aria-label": "Likeliest answers" }, ...bars.map(({ row }) => row)), problem, log, status));
  return { root, draw, heard, stop };
}
