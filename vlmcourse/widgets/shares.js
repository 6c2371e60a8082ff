const [SPAN, SIDE] = [448, 288]; // pixels of the map and of the picture on the screen

function build(model) {
  const { questions, tokens, layers, heads, grid, kind, measure, sizes } = model.get("shape");
  const table = bytes(model.get("colours"));
  const store = new Store(model, draw);
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(show); // [layer, token] under the pointer
  const patch = hovering(read); // [row, column] of the picture under the pointer
  let rested = null; // the patch that keys have chosen

  const place = () => hover.place ?? [view.layer, view.token];
  const share = (value) => `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;

  // ---- layers by tokens, one map for each question, made when it is first shown
  const holder = div("vlm-scroll");
  const made = new Map();

  function cellsOf(number) {
    if (!made.has(number)) {
      const [words, wide] = [tokens[number], tokens[number].length > 32 ? 4 : 1];
      const head = (text, more = {}) => h("span", { className: "vlm-axis", title: text, ...more }, text);
      const map = cellMap({ grid: [layers, words.length], side: SPAN, label: "Layers down, tokens across: arrow keys choose a cell",
        rows: count(layers).map((layer) => head(`layer ${layer}`)), columns: words.map((word, n) => head(n % wide ? "" : word)),
        at: () => [view.layer, view.token], hover, choose: ([layer, token]) => go({ layer, token }) });
      const chosen = div("vlm-chosen");
      map.area.append(chosen);
      made.set(number, { ...map, chosen });
    }
    return made.get(number);
  }

  const asked = choice(questions.map((text, n) => [n, text]), () => {
    const number = +asked.value;
    hover.place = null;
    go({ question: number, token: tokens[number].length - 1 });
  });
  const head = choice([["mean", headName("mean")], ...count(heads).map((n) => [n, headName(n)])], () => go({ head: head.value === "mean" ? "mean" : +head.value }));
  const [scale, words] = [colourScale(table), says("vlm-words")];
  scale.high.textContent = "1";

  // ---- the picture
  const size = grid ?? [1, 1];
  const { area, canvas, point } = cellPicture({ grid: size, label: "Picture: arrow keys read the weight of each patch", at: () => rested ?? [0, -1],
    hover: patch, choose: (at) => { rested = at; read(); } });
  area.addEventListener("blur", () => { rested = null; read(); });
  const [weights, reading] = [colourScale(table), div("vlm-reading")];
  const none = kind === "update" ? "This model looks at the image by an attention of its own, whose weights always sum to 1 over it. The share is of what it adds, so there are no weights of words over patches to show."
    : "The image tokens of this model stand for no places in the image, so there are no patches to show.";

  // What the shown cell gives to the patches, or null without weights; undefined while the kernel is asked.
  function looked() {
    if (!heads) return null;
    const [codes, largest, sums] = ["codes", "largest", "sums"].map((name) => store.get(`${name}/${view.question}`));
    if (!codes || !largest || !sums) return undefined;
    const [layer, token] = place();
    const [which, cells] = [(layer * (heads + 1) + (view.head === "mean" ? heads : view.head)) * tokens[view.question].length + token, size[0] * size[1]];
    return { codes: codes.subarray(which * cells, (which + 1) * cells), top: floats(largest)[which], sum: floats(sums)[which] };
  }

  // The picture and the words of the cell that is shown.
  function show() {
    const sent = store.get(`shares/${view.question}`);
    const pixels = store.get(`image/${view.question}`);
    const [found, [layer, token]] = [looked(), place()];
    root.setAttribute("aria-busy", !sent || !pixels || found === undefined);
    if (!sent || !pixels || found === undefined) {
      words.textContent = WAITING;
      return;
    }
    const value = floats(sent)[layer * tokens[view.question].length + token];
    const what = kind === "update" ? "of what is added comes from the image" : "of its attention goes to the image";
    const own = found && view.head !== "mean" ? `; in ${headName(view.head)} ${share(found.sum)}` : "";
    words.textContent = `Layer ${layer}, token ${token} “${tokens[view.question][token]}”: ${share(value)} ${what}${own}.`;
    scale.point(value);
    const shape = sizes[view.question];
    paint(canvas, found ? overlaid(pixels, found.codes, table, USUAL, shape, grid) : pixels, ...shape);
    fit(canvas, ...shape, SIDE);
    if (found) weights.high.textContent = number(found.top);
    cellsOf(view.question).canvas.setAttribute("aria-label", words.textContent);
    read();
  }

  // The number of the patch under the pointer, otherwise where the cell looks most.
  function read() {
    const found = looked();
    if (!found) {
      reading.textContent = heads ? "" : none;
      canvas.setAttribute("aria-label", `${questions[view.question]} ${reading.textContent}`);
      return;
    }
    const at = patch.place ?? rested;
    point(at);
    const cell = at ? cellOf(at, grid) : found.codes.indexOf(255);
    weights.point(at && found.top ? found.codes[cell] / 255 : null);
    const weight = (found.codes[cell] * found.top) / 255;
    reading.textContent = found.top ? `${at ? "" : "most at "}${placeName(at ?? placeOf(cell, grid))}: ${number(weight)}` : "it does not look at the image";
    canvas.setAttribute("aria-label", `${questions[view.question]} ${reading.textContent}`);
  }

  function draw() {
    const map = cellsOf(view.question);
    if (holder.firstChild !== map.element) holder.replaceChildren(map.element);
    const sent = store.get(`shares/${view.question}`);
    const grid = [layers, tokens[view.question].length];
    if (sent) paint(map.canvas, coloured(Uint8Array.from(floats(sent), (value) => Math.round(255 * clamp(value, 0, 1))), table), ...grid);
    layCell(map.chosen, [view.layer, view.token], grid);
    [asked.value, head.value] = [view.question, view.head];
    show();
  }

  const root = frame("shares", "Share map",
    h("div", {}, div("vlm-bar", labelled("Question", asked)), holder, scale.element, div("vlm-guess", measure), words),
    div("vlm-side", ...when(heads > 0, labelled("Head", head)), area, ...when(heads > 0, weights.element), reading));
  return { root, draw, heard: { "msg:custom": store.receive, ...heard } };
}
