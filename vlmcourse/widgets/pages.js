const [PAGE_ROOM, LEAST_ROOM, MOST_ZOOM, LINE] = [420, 320, 5, 3]; // pixels on the screen

function build(model) {
  const { pages, ways, budgets, found } = model.get("shape");
  const store = new Store(model, draw);
  const { now, said, answered, set, news: progress, heard, stop } = requests(model, draw);
  let at = 0; // the thing where the keys are

  const page = () => pages[now.number];
  const fresh = () => said().number === now.number; // whether the answer is about the page that is shown
  const asked = () => (answered() && !said().error ? said().question : now.question);

  // ---- the page
  const canvas = h("canvas", { role: "img" });
  const [marker, frames] = [h("div", { className: "vlm-pointer", hidden: true }), div("vlm-frames")];
  const area = h("div", { className: "vlm-picture", tabIndex: 0, role: "application", onkeydown: keys, onclick: pointAt,
    "aria-label": "Page: a click asks where the nearest thing is. Arrow keys go from thing to thing, Enter asks where it is",
    onfocus: () => walked(at), onblur: () => walked(at) }, canvas, frames, marker);
  const status = h("span", { className: "vlm-where", role: "status" });
  const [previous, next] = [[-1, "‹", "Previous page"], [1, "›", "Next page"]].map(([by, arrow, name]) => button(arrow, () => turn(by), { "aria-label": name }));
  const framing = h("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const walk = says("vlm-reading");

  function turn(by) {
    const number = (now.number + by + pages.length) % pages.length;
    const { questions, where: placed } = pages[number];
    at = 0;
    set({ number, point: null, question: [...questions, ...placed].includes(asked()) ? asked() : (questions[0] ?? placed[0] ?? "") });
  }

  function pointAt({ clientX, clientY }) {
    const box = canvas.getBoundingClientRect();
    const part = [(clientX - box.left) / box.width, (clientY - box.top) / box.height];
    const [height, width] = page().size;
    set({ point: [clamp(part[0], 0, 1) * width, clamp(part[1], 0, 1) * height] });
  }

  function keys(event) {
    const { things } = page();
    const to = { ArrowLeft: at - 1, ArrowUp: at - 1, ArrowRight: at + 1, ArrowDown: at + 1, Home: 0, End: things.length - 1 }[event.key];
    if ((to === undefined && event.key !== "Enter" && event.key !== " ") || !things.length) return;
    event.preventDefault();
    if (to !== undefined) return walked(clamp(to, 0, things.length - 1));
    const [left, top, right, bottom] = things[at].box;
    set({ point: [(left + right) / 2, (top + bottom) / 2] });
  }

  // A thing under the keys is framed and named.
  function walked(to) {
    const { things } = page();
    at = clamp(to, 0, Math.max(0, things.length - 1));
    marker.hidden = !things.length || document.activeElement !== area;
    if (things.length) layBox(marker, things[at].box, page().size, pageZoom());
    walk.textContent = !things.length ? "Nothing on this page has a name to point at." : marker.hidden ? "Click a thing to ask where it is. With keys: arrows, then Enter." : `${things[at].name}, ${at + 1} of ${things.length}: Enter asks where it is`;
  }

  // A box around what it holds: a thing may be as small as the line that frames it.
  function layBox(element, [left, top, right, bottom], [height, width], zoom) {
    const room = LINE / zoom;
    return lay(element, (left - room) / width, (top - room) / height, (right - left + 2 * room) / width, (bottom - top + 2 * room) / height);
  }

  // How many pixels of the screen a pixel of a picture gets: as many along both edges, and a whole number.
  const whole = (zoom, most) => clamp(Math.floor(zoom), 1, most);
  const pageZoom = () => whole(PAGE_ROOM / Math.max(...page().size) + 0.5, MOST_ZOOM);

  function crisp(element, [height, width], zoom) {
    fit(element, height, width, zoom * Math.max(height, width));
    element.style.imageRendering = "pixelated";
  }

  function drawPage() {
    const { size, kind, things } = page();
    const pixels = store.get(`page/${now.number}`);
    if (pixels) crisp(paint(canvas, pixels, ...size), size, pageZoom());
    status.textContent = `page ${now.number + 1} of ${pages.length}`;
    canvas.setAttribute("aria-label", `Page ${now.number + 1}, ${kind}, ${size.join(" × ")} pixels${things.length ? `; to point at: ${things.map(({ name }) => name).join(", ")}` : ""}`);
    const { boxes, told } = said();
    const draws = (look, some) => some.map((box) => layBox(div(look), box, size, pageZoom()));
    frames.replaceChildren(...when(fresh(), ...draws("vlm-box", told), ...when(framing.checked, ...draws("vlm-frame", boxes)))); // dashes over a line: both are seen where they meet
    walked(at);
  }

  // ---- how the model sees it
  const wayButtons = Object.keys(ways).map((way) => button(way, () => set({ way }), { title: ways[way] }));
  const budget = slider(budgets.length - 1, () => set({ budget: budgets[budget.value] }));
  const limit = h("output");
  const gridded = h("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const [cost, left] = [says("vlm-words"), div("vlm-reading")];
  const panes = ["frame", "small"].map(() => {
    const [picture, lattice, tiles, over, title] = [h("canvas", { role: "img" }), div("vlm-lattice"), div("vlm-lattice vlm-tile-lines"), div("vlm-frames"), div("vlm-axis")];
    return { picture, lattice, tiles, over, title, element: h("div", { className: "vlm-sight" }, title, div("vlm-picture", picture, lattice, tiles, over)) };
  });

  // One picture that the model sees, with lines where its tokens end, and its tiles.
  function drawPane({ picture, lattice, tiles, over }, name, size, [rows, columns], zoom) {
    crisp(paint(picture, bytes(model.get(name)), ...size), size, zoom);
    const lines = (element, [down, across]) => { element.style.backgroundSize = `${100 / across}% ${100 / down}%`; };
    lines(lattice, size.map((side) => side / said().square));
    lines(tiles, [rows, columns]);
    lattice.hidden = !gridded.checked;
    tiles.hidden = rows * columns === 1;
    over.replaceChildren();
  }

  function drawSight() {
    const { frame, small, grid, size, tokens, square, left: share, way, shown } = said();
    const tiled = grid[0] * grid[1] > 1;
    const [big, thumb] = panes;
    const room = page().size.map((side) => Math.max(LEAST_ROOM, side * pageZoom()));
    const zoom = whole(Math.min(room[0] / frame[0], room[1] / frame[1]), 8);
    drawPane(big, "seen", frame, grid, zoom);
    if (framing.checked && fresh()) big.over.replaceChildren(...shown.map((box) => layBox(div("vlm-frame"), box, frame, zoom)));
    thumb.element.hidden = !tiled;
    if (tiled) drawPane(thumb, "thumbnail", small, [1, 1], whole(zoom, 2));
    const each = (sides) => sides.map((side) => side / square).join(" × ");
    big.title.textContent = tiled ? `${grid.join(" × ")} tiles of ${each(small)} tokens` : `${each(frame)} tokens`;
    thumb.title.textContent = `and a thumbnail of ${each(small)} tokens, which it reads first`;
    cost.textContent = `${tokens} tokens${share < 1 ? `, ${percent(share)} of the pixels are left` : ", no pixel is lost"}`;
    left.textContent = `${page().size.join(" × ")} pixels become ${size.join(" × ")}, ${ways[way]}.`;
    big.picture.setAttribute("aria-label", `What the model sees: ${frame.join(" × ")} pixels, ${big.title.textContent}`);
    thumb.picture.setAttribute("aria-label", `The thumbnail: ${small.join(" × ")} pixels`);
  }

  // ---- the question and its answer
  const question = asking({ placeholder: "ask about the page", label: "Question about the page",
    ask: (text) => { if (text !== asked()) set({ question: text, point: null }); } });
  const list = h("select", { "aria-label": "Questions about this page", onchange: () => set({ question: list.value, point: null }) });
  const own = h("option", { value: "" }, "in your own words");
  const reply = h("span", { className: "vlm-answer", "aria-live": "polite" });
  const [mark, truth] = [h("span", { className: "vlm-mark" }), h("span")];
  const [bar, chance] = [meter(), h("span")];
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });
  const news = div("vlm-reading");
  let listed = null;

  function drawQuestion() {
    const { questions, where: placed } = page();
    if (listed !== now.number) {
      listed = now.number;
      const group = (label, texts) => h("optgroup", { label }, ...texts.map((text) => h("option", { value: text }, text)));
      list.replaceChildren(own, ...when(questions.length, group("What is there", questions)), ...when(placed.length, group("Where it is", placed)));
    }
    list.value = [...questions, ...placed].includes(asked()) ? asked() : "";
    if (!question.typing() && document.activeElement !== question.input) question.input.value = asked();
  }

  function verdict({ right, iou, truth: answer, told }) {
    if (right === null) return "It is not one of this page's questions, so nobody knows what is right.";
    if (iou === null) return right ? "right" : `right would be: ${answer}`;
    if (!told.length) return "it names no box";
    return `IoU ${iou.toFixed(2)} with the true box; ${right ? `found, ${found} is enough` : `missed, ${found} is needed`}`;
  }

  function drawAnswer() {
    const it = said();
    reply.textContent = it.answer || "–";
    mark.textContent = it.right === null ? "" : it.right ? "✓" : "✗";
    mark.className = `vlm-mark ${it.right ? "vlm-right" : "vlm-wrong"}`;
    truth.textContent = verdict(it);
    bar.fill(it.p);
    chance.textContent = percent(it.p);
    problem.hidden = !it.error || !answered();
    problem.textContent = `⚠ ${it.error}`;
  }

  function draw() {
    drawPage();
    drawSight();
    drawQuestion();
    drawAnswer();
    wayButtons.forEach((it) => it.setAttribute("aria-pressed", it.textContent === now.way));
    limit.textContent = `at most ${now.budget} tokens`;
    [budget.value, budget.ariaValueText] = [budgets.indexOf(now.budget), limit.textContent];
    previous.disabled = next.disabled = pages.length < 2;
    news.textContent = progress();
    root.setAttribute("aria-busy", !answered());
  }

  const root = frame("reader", "Page reader",
    div("vlm-read", div("vlm-bar", previous, status, next, labelled("Frame what one must see", framing)), area, walk,
      list, question.input, div("vlm-bar", reply, mark, truth),
      div("vlm-sure", h("span", {}, "how likely"), bar.element, chance),
      legend([sample("vlm-frame"), "what one must see"], [sample("vlm-box"), "the box that it names"]), problem),
    div("vlm-sights", h("div", { className: "vlm-bar", role: "group", "aria-label": "How the model sees the page" }, ...wayButtons),
      div("vlm-bar", labelled("Budget", budget), limit, labelled("Grid", gridded)), cost, left, ...panes.map(({ element }) => element), news));
  return { root, draw, heard: { "msg:custom": store.receive, ...heard }, stop: () => { stop(); question.stop(); } };
}
