const REST_MS = 150; // typing that rests this long is a question
const PATIENCE_MS = 5000; // a request without an answer for so long no longer holds up the next
const LATE_MS = 1500; // then one is told that the kernel is being waited for
const STRENGTH = 0.6; // of the attention over the picture
const [STAGE, GIVEN] = [384, 192]; // pixels on the screen

function render({ model, el }) {
  const { names: [shapes, colours, sizes], radii, side, margin, gap, slant, most, trained, best, scenes } = model.get("world");
  const table = bytes(model.get("colours"));
  const store = new Store(model, () => draw());
  const me = Math.random().toString(36).slice(2); // one model may have several views
  let now = { ...model.get("state") };
  let [selected, undo, mark, held, drags] = [now.things.length ? 0 : -1, [], null, null, 0];
  let [underway, sent, took, reached, typing, late] = [null, 0, null, true, null, null];
  let [cell, rested] = [null, null];

  const title = ([shape, colour, size]) => `${sizes[size]} ${colours[colour]} ${shapes[shape]}`;
  const thing = () => now.things[selected];
  const said = () => model.get("answer");
  const answered = () => said().by === now.by && said().turn === now.turn;

  // ---- the kernel: one request at a time, always the newest
  function set(change) {
    now = { ...now, ...change, by: me, turn: now.turn + 1 };
    send();
    draw();
  }

  function send() {
    if (answered() || (underway !== null && performance.now() - sent < PATIENCE_MS)) return;
    const held = model.get("state"); // what Python set, but an older request of this page reached the kernel after it
    if (held.by === now.by && held.turn === now.turn) now = { ...now, by: me, turn: now.turn + 1 };
    [underway, sent] = [now.turn, performance.now()];
    reached = remember(model, "state", { ...now });
    if (!reached) underway = null;
    clearTimeout(late);
    late = setTimeout(draw, LATE_MS);
  }

  function arrived() {
    const { by, turn } = said();
    if (by === me && turn === underway) [underway, took] = [null, performance.now() - sent];
    send();
    draw();
  }

  function adopt() { // what Python or another view has set
    const state = model.get("state");
    if (state.by === me) return;
    if (state.number !== now.number) undo = [];
    [now, underway, took, mark] = [{ ...state }, null, null, null];
    selected = clamp(selected, Math.min(0, now.things.length - 1), now.things.length - 1);
    if (!typing) question.value = now.question;
    draw();
  }

  // ---- editing; steps under the same name are undone together
  function edit(things, pick = selected, name = null) {
    if (String(things) === String(now.things)) return;
    if (name === null || name !== mark) undo.push([now.things, selected]);
    [mark, selected] = [name, pick];
    set({ things });
  }

  function inside([shape, colour, size, x, y]) {
    const room = radii[size] + margin;
    return [shape, colour, size, clamp(x, room, side - 1 - room), clamp(y, room, side - 1 - room)];
  }

  const put = (part, value, name) => {
    if (selected < 0) return;
    edit(now.things.map((it, n) => (n === selected ? inside(it.map((old, m) => (m === part ? value : old))) : it)), selected, name);
  };
  const move = (x, y, name) => edit(now.things.map((it, n) => (n === selected ? inside([...it.slice(0, 3), x, y]) : it)), selected, name);
  const remove = () => { if (selected >= 0) edit(now.things.filter((_, n) => n !== selected), Math.min(selected, now.things.length - 2)); };
  const reset = () => edit(scenes[now.number].things, 0);

  function back() {
    if (!undo.length) return;
    const [things, pick] = undo.pop();
    [mark, selected] = [null, pick];
    set({ things });
  }

  // A new object that looks unlike the others, where the rules of the course's world leave it room, or else in the middle.
  function add() {
    if (now.things.length >= most) return;
    const unlike = trained.map(([s, c]) => [now.things.filter((it) => it[0] === s || it[1] === c).length, s, c]).sort((a, b) => a[0] - b[0]);
    const [, shape, colour] = unlike[0];
    const room = radii[1] + margin;
    const free = (x, y) => now.things.every((it) => {
      const [across, down] = [Math.abs(it[3] - x), Math.abs(it[4] - y)];
      return Math.max(across, down) > radii[it[2]] + radii[1] + gap && Math.abs(across - down) >= slant;
    });
    const places = count((side - 2 * room) ** 2).map((n) => [room + (n % (side - 2 * room)), room + Math.floor(n / (side - 2 * room))]);
    const [x, y] = places.find(([x, y]) => free(x, y)) ?? [side / 2, side / 2];
    edit([...now.things, [shape, colour, 1, x, y]], now.things.length);
  }

  function next() {
    const number = (now.number + 1) % scenes.length;
    const kind = Object.entries(scenes[now.number].questions).find(([, text]) => text === now.question)?.[0];
    const other = kind ? (scenes[number].questions[kind] ?? Object.values(scenes[number].questions)[0]) : now.question;
    [undo, mark, selected] = [[], null, 0];
    question.value = other;
    set({ number, things: scenes[number].things, question: other });
  }

  // ---- the scene
  const stage = h("canvas", { role: "img" });
  const box = h("div", { className: "vlm-box" });
  const area = h("div", { className: "vlm-picture", tabIndex: 0, role: "application",
    "aria-label": "Scene: Tab goes from object to object, arrow keys move one (with Shift by 8 pixels), Delete removes it, Ctrl+Z undoes",
    onkeydown: keys, onpointerdown: grab, onpointermove: drag, onpointerup: release, onpointercancel: release }, stage, box);
  const status = h("div", { className: "vlm-words", role: "status" });
  const beyond = h("div", { className: "vlm-reading vlm-beyond" });
  fit(stage, side, side, STAGE);

  const under = ({ clientX, clientY }) => {
    const frame = stage.getBoundingClientRect();
    return [((clientX - frame.left) / frame.width) * side, ((clientY - frame.top) / frame.height) * side];
  };
  const painted = () => now.things.map((it, n) => [it, n]).sort((a, b) => a[0][2] - b[0][2]); // small ones first, as the course does
  const covers = ([, , size, x, y], [px, py]) => Math.max(Math.abs(px - x - 0.5), Math.abs(py - y - 0.5)) <= radii[size] + 0.5;

  function grab(event) {
    const point = under(event);
    const pick = selected >= 0 && covers(thing(), point) ? selected : painted().filter(([it]) => covers(it, point)).at(-1)?.[1] ?? -1;
    selected = pick;
    area.focus({ preventScroll: true });
    event.preventDefault();
    if (pick >= 0) {
      area.setPointerCapture(event.pointerId);
      held = { name: `drag ${drags++}`, dx: thing()[3] - point[0], dy: thing()[4] - point[1] };
    }
    draw();
  }

  function drag(event) {
    const point = under(event);
    area.style.cursor = held ? "grabbing" : now.things.some((it) => covers(it, point)) ? "grab" : "default";
    if (!held || selected < 0) return;
    const [x, y] = [Math.round(point[0] + held.dx), Math.round(point[1] + held.dy)];
    const to = inside([...thing().slice(0, 3), x, y]);
    if (to[3] !== thing()[3] || to[4] !== thing()[4]) move(x, y, held.name);
  }

  function release() {
    held = null;
  }

  function keys(event) {
    const step = ARROWS[event.key];
    const tab = selected + (event.shiftKey ? -1 : 1);
    if (step && selected >= 0) move(thing()[3] + step[1] * (event.shiftKey ? 8 : 1), thing()[4] + step[0] * (event.shiftKey ? 8 : 1), `move ${selected}`);
    else if (event.key === "Tab" && tab >= 0 && tab < now.things.length) { selected = tab; draw(); }
    else if (event.key === "Delete" || event.key === "Backspace") remove();
    else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // The scene pasted together from sprites, as paste does in world/arranging.py; null until they are there.
  function preview() {
    const [paper, sprites] = [store.get(`paper/${now.number}`), store.get(`sprites/${scenes[now.number].light}`)];
    if (!paper || !sprites) return null;
    const out = paper.slice();
    for (const [[shape, colour, size, x, y]] of painted()) {
      const [radius, sprite] = [radii[size], spriteOf(sprites, shape, colour, size)];
      const row = 3 * (2 * radius + 1); // bytes
      for (let line = 0; line <= 2 * radius; line++) {
        for (let i = line * row, j = 3 * ((y - radius + line) * side + x - radius); i < (line + 1) * row; i += 3, j += 3) {
          if (sprite[i] !== paper[0] || sprite[i + 1] !== paper[1] || sprite[i + 2] !== paper[2]) out.set(sprite.subarray(i, i + 3), j);
        }
      }
    }
    return out;
  }

  function spriteOf(sprites, shape, colour, size) {
    const area = (n) => 3 * (2 * radii[n] + 1) ** 2;
    const start = count(size).reduce((sum, n) => sum + area(n) * shapes.length * colours.length, 0);
    return sprites.subarray(start + (shape * colours.length + colour) * area(size)).subarray(0, area(size));
  }

  // ---- the tools
  const tool = (name, part, value, content) => h("button", { type: "button", className: "vlm-tool", title: name, "aria-label": name, onclick: () => put(part, value) }, content);
  const icons = shapes.map(() => h("canvas"));
  icons.forEach((icon) => fit(icon, 2 * radii[1] + 1, 2 * radii[1] + 1, 22));
  const shapeTools = shapes.map((name, n) => tool(name, 0, n, icons[n]));
  const paints = colours.map(() => h("span", { className: "vlm-swatch" }));
  const colourTools = colours.map((name, n) => tool(name, 1, n, paints[n]));
  const sizeTools = sizes.map((name, n) => tool(name, 2, n, name));
  const group = (label, items) => h("div", { className: "vlm-tools", role: "group", "aria-label": label }, ...items);
  const [adding, removing, undoing] = [button("Add", add), button("Delete", remove), button("Undo", back)];
  const restoring = button("Reset", reset);

  // ---- the question
  const question = h("input", { type: "search", className: "vlm-search-box", placeholder: "ask about the scene", "aria-label": "Question about the scene", spellcheck: false, value: now.question,
    oninput: () => { clearTimeout(typing); typing = setTimeout(ask, REST_MS); },
    onkeydown: (event) => { if (event.key === "Enter") ask(); } });
  const chips = h("div", { className: "vlm-bar vlm-chips" });
  let listed = null;

  function ask() {
    clearTimeout(typing);
    typing = null;
    if (question.value !== now.question) set({ question: question.value });
  }

  function suggest() {
    if (listed !== now.number) {
      listed = now.number;
      chips.replaceChildren(...Object.values(scenes[listed].questions).map((text) =>
        h("button", { type: "button", className: "vlm-suggestion", onclick: () => { question.value = text; ask(); } }, text)));
    }
    [...chips.children].forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === now.question));
  }

  // ---- what the model gets
  const given = h("canvas", { role: "img" });
  const pointer = h("div", { className: "vlm-pointer", hidden: true });
  const scale = colourScale(table);
  const attentive = h("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const reading = h("div", { className: "vlm-reading" });
  const gets = h("div", { className: "vlm-axis" });
  const [blind, swap] = [["Blind", "grey"], ["Swap", "swapped"]].map(([text, what]) =>
    button(text, () => set({ given: now.given === what ? "scene" : what }), { title: what === "grey" ? "Give the model a grey picture" : "Give the model another scene" }));
  const look = h("div", { className: "vlm-picture", tabIndex: 0, role: "application", "aria-label": "What the model gets: arrow keys read the attention of each cell", onkeydown: walk,
    onpointermove: (event) => read(cellAt(event, given, said().grid)), onpointerleave: () => read(rested), onblur: () => { rested = null; read(null); } }, given, pointer);
  fit(given, side, side, GIVEN);

  const shown = () => attentive.checked && said().grid[0] > 0;

  function walk(event) {
    const place = shown() ? arrowed(event, rested ?? [0, -1], said().grid) : null;
    if (!place) return;
    rested = place;
    read(rested);
  }

  // The number of a cell; without one, the sum over the picture.
  function read(place) {
    const { grid: [rows, columns], largest, share } = said();
    cell = shown() && place && place[0] < rows && place[1] < columns ? place : null;
    pointer.hidden = !cell;
    scale.point(null);
    if (!cell) {
      reading.textContent = shown() ? `${percent(share)} of the attention goes to the picture` : "";
      return;
    }
    const weight = (bytes(model.get("attention"))[cell[0] * columns + cell[1]] * largest) / 255;
    layCell(pointer, cell, [rows, columns]);
    scale.point(largest ? weight / largest : 0);
    reading.textContent = `${placeName(cell)}: ${number(weight)}`;
  }

  // ---- the answer
  const reply = h("span", { className: "vlm-answer", "aria-live": "polite" });
  const [verdict, truth] = [h("span", { className: "vlm-mark" }), h("span")];
  const bars = count(best).map(() => {
    const [text, filled, value] = [h("span"), h("div", { className: "vlm-filled" }), h("span")];
    return { text, filled, value, row: h("div", { className: "vlm-chance", role: "listitem" }, text, h("div", { className: "vlm-meter" }, filled), value) };
  });
  const caption = h("p", { className: "vlm-caption" });
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });
  const news = h("div", { className: "vlm-reading" });
  const percent = (p) => (p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(p < 0.0995 ? 1 : 0)} %`);

  function judge({ truth: true_, right }) {
    verdict.textContent = !true_ ? "" : right ? "✓" : "✗";
    verdict.className = `vlm-mark ${right ? "vlm-yes" : "vlm-no"}`;
    truth.textContent = true_ === null ? "" : true_ === "" ? "no single right answer here" : right ? "right" : `right would be: ${true_}`;
  }

  function progress() {
    if (answered()) return took === null ? "" : `Updated in ${Math.round(took)} ms; the model took ${said().milliseconds} of them`;
    if (!reached) return "The kernel is gone; you can go on editing, the last answer stays.";
    return performance.now() - sent > LATE_MS - 50 ? "Asking the kernel; if nothing comes, it is busy or gone." : news.textContent;
  }

  // ---- drawing
  function drawStage() {
    const pixels = answered() && !said().error ? bytes(model.get("pixels")) : preview();
    if (pixels) paint(stage, pixels, side, side);
    box.hidden = selected < 0;
    if (selected >= 0) {
      const [, , size, x, y] = thing();
      lay(box, (x - radii[size] - 1) / side, (y - radii[size] - 1) / side, (2 * radii[size] + 3) / side, (2 * radii[size] + 3) / side);
    }
    stage.setAttribute("aria-label", now.things.length ? now.things.map((it) => `${title(it)} at ${it[3]}, ${it[4]}`).join("; ") : "no objects");
    status.textContent = selected < 0 ? `${now.things.length} objects; click one` : `${title(thing())} at ${thing()[3]}, ${thing()[4]}`;
  }

  function drawTools() {
    const sprites = store.get(`sprites/${scenes[now.number].light}`);
    const [shape, colour, size] = selected < 0 ? [-1, 0, -1] : thing();
    shapeTools.forEach((it, n) => { it.setAttribute("aria-pressed", n === shape); if (sprites) paint(icons[n], spriteOf(sprites, n, colour, 1), 2 * radii[1] + 1, 2 * radii[1] + 1); });
    colourTools.forEach((it, n) => { it.setAttribute("aria-pressed", selected >= 0 && n === colour); if (sprites) paints[n].style.background = `rgb(${middle(spriteOf(sprites, 0, n, 1))})`; });
    sizeTools.forEach((it, n) => it.setAttribute("aria-pressed", n === size));
    for (const it of [...shapeTools, ...colourTools, ...sizeTools, removing]) it.disabled = selected < 0;
    [adding.disabled, undoing.disabled] = [now.things.length >= most, !undo.length];
    adding.title = adding.disabled ? `A scene has at most ${most} objects` : "";
    restoring.disabled = String(now.things) === String(scenes[now.number].things);
    blind.setAttribute("aria-pressed", now.given === "grey");
    swap.setAttribute("aria-pressed", now.given === "swapped");
  }

  const middle = (sprite) => sprite.subarray(3 * ((sprite.length / 3 - 1) / 2)).subarray(0, 3).join();

  function drawAnswer() {
    const it = said();
    const picture = bytes(model.get("model_input"));
    paint(given, shown() ? overlaid(picture, bytes(model.get("attention")), table, STRENGTH, [side, side], it.grid) : picture, side, side);
    gets.textContent = { scene: "the model gets this scene", swapped: "the model gets another scene", grey: "the model gets a grey picture" }[now.given];
    given.setAttribute("aria-label", `${gets.textContent}${shown() ? ", under the attention of its answer" : ""}`);
    scale.element.hidden = !shown();
    scale.high.textContent = number(it.largest);
    reply.textContent = it.answer || "–";
    judge(it);
    bars.forEach(({ row, text, filled, value }, n) => {
      const choice = it.choices[n];
      row.style.visibility = choice ? "" : "hidden";
      if (!choice) return;
      [text.textContent, value.textContent] = [choice.text, `${choice.right ? "✓ " : ""}${percent(choice.p)}`];
      text.title = choice.text;
      filled.style.width = `${100 * choice.p}%`;
    });
    caption.textContent = it.caption;
    beyond.textContent = it.outside ? `Outside the training world: ${it.outside}.` : "";
    problem.hidden = !it.error;
    problem.textContent = `⚠ ${it.error}`;
    read(cell);
  }

  function draw() {
    drawStage();
    drawTools();
    suggest();
    drawAnswer();
    news.textContent = progress();
    root.setAttribute("aria-busy", !answered());
  }

  const root = frame("playground", "Scene playground",
    h("div", { className: "vlm-stage" }, area, h("div", { className: "vlm-bar" }, status, beyond),
      h("div", { className: "vlm-bar" }, group("Shape", shapeTools), group("Size", sizeTools)),
      h("div", { className: "vlm-bar" }, group("Colour", colourTools)),
      h("div", { className: "vlm-bar" }, adding, removing, undoing, restoring, button("Next scene", next)),
      h("div", { className: "vlm-axis" }, "Drag, or use Tab and the arrow keys. Delete removes, Ctrl+Z undoes.")),
    h("div", { className: "vlm-side" }, question, chips,
      h("div", { className: "vlm-bar vlm-outcome" },
        h("div", { className: "vlm-said" }, h("div", { className: "vlm-bar" }, reply, verdict, truth),
          h("div", { className: "vlm-chances", role: "list", "aria-label": "Likeliest answers" }, ...bars.map(({ row }) => row)),
          h("div", {}, h("div", { className: "vlm-axis" }, "Caption"), caption)),
        h("div", { className: "vlm-given" }, gets, look, scale.element, reading,
          h("div", { className: "vlm-bar" }, blind, swap), labelled("Attention", attentive))),
      problem, news));
  el.append(root);
  draw();
  const end = subscribe(model, { "msg:custom": store.receive, "change:answer": arrived, "change:state": adopt });
  return () => { clearTimeout(late); clearTimeout(typing); end(); };
}

export default { render };
