const [STAGE, GIVEN] = [384, 192]; // pixels on the screen
const [SHAPE, COLOUR, SIZE, X, Y] = [0, 1, 2, 3, 4]; // of an object

function build(model) {
  const { names: [shapes, colours, sizes], radii, side, margin, gap, slant, most, trained, best, scenes, models } = model.get("world");
  const table = bytes(model.get("colours"));
  const store = new Store(model, draw);
  const { now, said, answered, set, news: progress, heard, stop } = requests(model, draw, adopted);
  let [selected, undo, mark, held, drags] = [now.things.length ? 0 : -1, [], null, null, 0];
  const hover = hovering(read);
  let rested = null; // the cell that keys or a click have chosen

  const where = ([shape, colour, size, x, y]) => `${sizes[size]} ${colours[colour]} ${shapes[shape]} at ${x}, ${y}`;
  const thing = () => now.things[selected];

  function adopted(before) { // what Python or another view has set
    if (before.number !== now.number) undo = [];
    mark = null;
    selected = clamp(selected, Math.min(0, now.things.length - 1), now.things.length - 1);
    if (!question.typing()) question.input.value = now.question;
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

  const put = (parts, name) => edit(now.things.map((it, n) => (n === selected ? inside(Object.assign([...it], parts)) : it)), selected, name);
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
    const unlike = trained.map(([s, c]) => [now.things.filter((it) => it[SHAPE] === s || it[COLOUR] === c).length, s, c]).sort((a, b) => a[0] - b[0]);
    const [, shape, colour] = unlike[0];
    const room = radii[1] + margin;
    const free = (x, y) => now.things.every((it) => {
      const [across, down] = [Math.abs(it[X] - x), Math.abs(it[Y] - y)];
      return Math.max(across, down) > radii[it[SIZE]] + radii[1] + gap && Math.abs(across - down) >= slant;
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
    question.input.value = other;
    set({ number, things: scenes[number].things, question: other });
  }

  // ---- the scene
  const [stage, box, status, beyond] = [fit(h("canvas", { role: "img" }), side, side, STAGE), div("vlm-box"), says("vlm-words"), div("vlm-reading vlm-beyond")];
  const release = () => { held = null; };
  const area = h("div", { className: "vlm-picture", tabIndex: 0, role: "application",
    onfocus: () => window.addEventListener("keydown", undoKey, true), onblur: () => window.removeEventListener("keydown", undoKey, true),
    "aria-label": "Scene: Tab goes from object to object, arrow keys move one (with Shift by 8 pixels), Delete removes it, Ctrl+Z undoes",
    onkeydown: keys, onpointerdown: grab, onpointermove: drag, onpointerup: release, onpointercancel: release }, stage, box);

  const under = ({ clientX, clientY }) => {
    const frame = stage.getBoundingClientRect();
    return [((clientX - frame.left) / frame.width) * side, ((clientY - frame.top) / frame.height) * side];
  };
  const painted = () => now.things.map((it, n) => [it, n]).sort(([a], [b]) => a[SIZE] - b[SIZE]); // small ones first, as the course does
  const covers = ([, , size, x, y], [px, py]) => Math.max(Math.abs(px - x - 0.5), Math.abs(py - y - 0.5)) <= radii[size] + 0.5;

  function grab(event) {
    const point = under(event);
    if (selected < 0 || !covers(thing(), point)) selected = painted().filter(([it]) => covers(it, point)).at(-1)?.[1] ?? -1;
    area.focus({ preventScroll: true });
    event.preventDefault();
    if (selected >= 0) {
      area.setPointerCapture(event.pointerId);
      held = { name: `drag ${drags++}`, dx: thing()[X] - point[0], dy: thing()[Y] - point[1] };
    }
    draw();
  }

  function drag(event) {
    const point = under(event);
    area.style.cursor = held ? "grabbing" : now.things.some((it) => covers(it, point)) ? "grab" : "default";
    if (!held || selected < 0) return;
    put({ [X]: Math.round(point[0] + held.dx), [Y]: Math.round(point[1] + held.dy) }, held.name);
  }

  function keys(event) {
    const [step, far, tab] = [ARROWS[event.key], event.shiftKey ? 8 : 1, selected + (event.shiftKey ? -1 : 1)];
    if (step && selected >= 0) put({ [X]: thing()[X] + step[1] * far, [Y]: thing()[Y] + step[0] * far }, `move ${selected}`);
    else if (event.key === "Tab" && tab >= 0 && tab < now.things.length) { selected = tab; draw(); }
    else if (event.key === "Delete" || event.key === "Backspace") remove();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // Heard before the page around hears it: JupyterLab 3 would undo in the notebook's cells.
  function undoKey(event) {
    if (event.key.toLowerCase() !== "z" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    event.stopPropagation();
    back();
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

  const tool = (name, part, value, content) =>
    button(content, () => put({ [part]: value }), { className: "vlm-tool", title: name, "aria-label": name });
  const icons = shapes.map(() => fit(h("canvas"), 2 * radii[1] + 1, 2 * radii[1] + 1, 22));
  const shapeTools = shapes.map((name, n) => tool(name, SHAPE, n, icons[n]));
  const paints = colours.map(() => h("span", { className: "vlm-swatch" }));
  const colourTools = colours.map((name, n) => tool(name, COLOUR, n, paints[n]));
  const sizeTools = sizes.map((name, n) => tool(name, SIZE, n, name));
  const group = (label, items) => h("div", { className: "vlm-tools", role: "group", "aria-label": label }, ...items);
  const [adding, removing, undoing, restoring] = [button("Add", add), button("Delete", remove), button("Undo", back), button("Reset", reset)];

  const question = asking({ placeholder: "ask about the scene", label: "Question about the scene",
    ask: (text) => { if (text !== now.question) set({ question: text }); } });
  question.input.value = now.question;
  const chips = div("vlm-bar vlm-chips");
  let listed = null;

  function suggest() {
    if (listed !== now.number) {
      listed = now.number;
      chips.replaceChildren(...Object.values(scenes[listed].questions).map(question.suggestion));
    }
    [...chips.children].forEach((chip) => chip.setAttribute("aria-pressed", chip.textContent === now.question));
  }

  // ---- what the model gets
  const grid = [0, 0]; // of the attention of the present answer
  const { area: look, canvas: given, point } = cellPicture({ grid, label: "What the model gets: arrow keys read the attention of each cell",
    at: () => rested ?? [0, -1], hover, choose: (place) => { rested = place; read(); } });
  look.addEventListener("blur", () => { rested = null; read(); });
  fit(given, side, side, GIVEN);
  const [scale, reading, gets] = [colourScale(table), div("vlm-reading"), div("vlm-axis")];
  const attentive = h("input", { type: "checkbox", checked: true, onchange: () => draw() });
  const [blind, swap] = [["Blind", "grey"], ["Swap", "swapped"]].map(([text, what]) =>
    button(text, () => set({ given: now.given === what ? "scene" : what }), { title: what === "grey" ? "Give the model a grey picture" : "Give the model another scene" }));
  const shown = () => attentive.checked && grid[0] > 0;

  // The number of a cell; without one, the sum over the picture.
  function read() {
    const { largest, share } = said();
    const cell = shown() ? hover.place ?? rested : null;
    point(cell);
    scale.point(null);
    if (!cell) {
      reading.textContent = shown() ? `${percent(share)} of the attention goes to the picture` : "";
      return;
    }
    const weight = (bytes(model.get("attention"))[cellOf(cell, grid)] * largest) / 255;
    scale.point(largest ? weight / largest : 0);
    reading.textContent = `${placeName(cell)}: ${number(weight)}`;
  }

  const reply = h("span", { className: "vlm-answer", "aria-live": "polite" });
  const [verdict, truth] = [h("span", { className: "vlm-mark" }), h("span")];
  // one button for each model, with what it says; the pressed one is looked at closely
  const voices = models.map((name, n) => {
    const [text, mark] = [h("span"), h("span", { className: "vlm-mark" })];
    return { text, mark, it: button(h("span", {}, h("span", { className: "vlm-voice" }, name), " ", text, " ", mark), () => set({ model: n })) };
  });
  const chorus = h("div", { className: "vlm-bar vlm-chorus", role: "group", "aria-label": "Models", hidden: models.length < 2 }, ...voices.map(({ it }) => it));
  const bars = count(best).map(() => {
    const [text, bar, value] = [h("span"), meter(), h("span")];
    return { text, bar, value, row: h("div", { className: "vlm-chance", role: "listitem" }, text, bar.element, value) };
  });
  const [caption, news] = [h("p", { className: "vlm-caption" }), div("vlm-reading")];
  const problem = h("div", { className: "vlm-warning", role: "alert", hidden: true });
  // ---- drawing
  function drawStage() {
    const pixels = answered() && !said().error ? bytes(model.get("pixels")) : preview();
    if (pixels) paint(stage, pixels, side, side);
    box.hidden = selected < 0;
    if (selected >= 0) {
      const [, , size, x, y] = thing();
      lay(box, (x - radii[size] - 1) / side, (y - radii[size] - 1) / side, (2 * radii[size] + 3) / side, (2 * radii[size] + 3) / side);
    }
    stage.setAttribute("aria-label", now.things.length ? now.things.map(where).join("; ") : "no objects");
    status.textContent = selected < 0 ? `${now.things.length} objects; click one` : where(thing());
  }

  function drawTools() {
    const [paper, sprites] = [store.get(`paper/${now.number}`), store.get(`sprites/${scenes[now.number].light}`)];
    const [shape, colour, size] = selected < 0 ? [-1, 0, -1] : thing();
    const rows = [[shapeTools, shape], [colourTools, selected < 0 ? -1 : colour], [sizeTools, size]];
    rows.forEach(([tools, chosen]) => tools.forEach((it, n) => it.setAttribute("aria-pressed", n === chosen)));
    for (const it of [...shapeTools, ...colourTools, ...sizeTools, removing]) it.disabled = selected < 0;
    if (paper && sprites) icons.forEach((icon, n) => drawIcon(icon, spriteOf(sprites, n, colour, 1), paper));
    if (sprites) paints.forEach((swatch, n) => { swatch.style.background = `rgb(${middle(spriteOf(sprites, 0, n, 1))})`; });
    [adding.disabled, undoing.disabled] = [now.things.length >= most, !undo.length];
    adding.title = adding.disabled ? `A scene has at most ${most} objects` : "";
    restoring.disabled = String(now.things) === String(scenes[now.number].things);
    blind.setAttribute("aria-pressed", now.given === "grey");
    swap.setAttribute("aria-pressed", now.given === "swapped");
  }

  const middle = (sprite) => sprite.subarray(3 * ((sprite.length / 3 - 1) / 2)).subarray(0, 3);

  // An object without the paper around it: a pixel covers as much as it differs from that.
  function drawIcon(icon, sprite, paper) {
    const side = 2 * radii[1] + 1;
    const pen = paint(icon, sprite, side, side).getContext("2d");
    const [image, colour] = [pen.getImageData(0, 0, side, side), middle(sprite)];
    const apart = (rgb) => count(3).reduce((sum, c) => sum + Math.abs(rgb[c] - paper[c]), 0);
    for (let i = 0; i < image.data.length; i += 4) {
      const covers = 255 * Math.min(1, apart(image.data.subarray(i, i + 3)) / apart(colour));
      image.data.set([...colour, covers], i);
    }
    pen.putImageData(image, 0, 0);
  }

  function drawAnswer() {
    const it = said();
    if (String(grid) !== String(it.grid)) [hover.place, rested] = [null, null];
    Object.assign(grid, it.grid);
    const picture = bytes(model.get("model_input"));
    paint(given, shown() ? overlaid(picture, bytes(model.get("attention")), table, USUAL, [side, side], grid) : picture, side, side);
    gets.textContent = { scene: "the model gets this scene", swapped: "the model gets another scene", grey: "the model gets a grey picture" }[now.given];
    given.setAttribute("aria-label", `${gets.textContent}${shown() ? ", under the attention of its answer" : ""}`);
    scale.element.hidden = !shown();
    scale.high.textContent = number(it.largest);
    reply.textContent = it.answer || "–";
    verdict.textContent = !it.truth ? "" : it.right ? "✓" : "✗";
    verdict.className = `vlm-mark ${it.right ? "vlm-right" : "vlm-wrong"}`;
    voices.forEach(({ text, mark, it: voice }, n) => {
      text.textContent = it.all[n].text || "–";
      mark.textContent = !it.truth ? "" : it.all[n].right ? "✓" : "✗";
      mark.className = `vlm-mark ${it.all[n].right ? "vlm-right" : "vlm-wrong"}`;
      voice.setAttribute("aria-pressed", n === now.model);
    });
    truth.textContent = it.truth === null ? "" : it.truth === "" ? "no single right answer here" : it.right ? "right" : `right would be: ${it.truth}`;
    bars.forEach(({ row, text, bar, value }, n) => {
      const choice = it.choices[n];
      row.style.visibility = choice ? "" : "hidden";
      if (!choice) return;
      [text.textContent, value.textContent] = [choice.text, `${choice.right ? "✓ " : ""}${percent(choice.p)}`];
      text.title = choice.text;
      bar.fill(choice.p);
    });
    caption.textContent = it.caption;
    beyond.textContent = it.outside ? `Outside the training world: ${it.outside}.` : "";
    problem.hidden = !it.error;
    problem.textContent = `⚠ ${it.error}`;
    read();
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
    div("vlm-stage", area, div("vlm-bar", status, beyond),
      div("vlm-bar", group("Shape", shapeTools), group("Size", sizeTools)), div("vlm-bar", group("Colour", colourTools)),
      div("vlm-bar", adding, removing, undoing, restoring, button("Next scene", next)),
      div("vlm-axis", "Drag, or use Tab and the arrow keys. Delete removes, Ctrl+Z undoes.")),
    div("vlm-side", question.input, chips, chorus,
      div("vlm-bar vlm-outcome",
        div("vlm-said", div("vlm-bar", reply, verdict, truth),
          h("div", { className: "vlm-chances", role: "list", "aria-label": "Likeliest answers" }, ...bars.map(({ row }) => row)),
          h("div", {}, div("vlm-axis", "Caption"), caption)),
        div("vlm-given", gets, look, scale.element, reading, div("vlm-bar", blind, swap), labelled("Attention", attentive))),
      problem, news));
  return { root, draw, heard: { "msg:custom": store.receive, ...heard }, stop: () => { stop(); question.stop(); } };
}
