function render({ model, el }) {
  const { size, rows, columns, k, moments, measure, low, high } = model.get("shape");
  const [pixels, scores] = [bytes(model.get("blobs").image), floats(model.get("blobs").scores)];
  const words = model.get("words");
  const table = bytes(model.get("colours"));
  const grid = [rows, columns];
  const cells = rows * columns;
  const { view, go, heard } = viewer(model, draw);
  let [hovered, strength] = [null, 0.5];

  const fraction = (score) => clamp((score - low) / (high - low), 0, 1);
  const near = (moment, cell) => count(k).map((i) => { const at = (moment * cells + cell) * k + i; return { word: words[at], score: scores[at] }; });

  // ---- one picture with its words, and its list; there are two of both, the second may be hidden
  const side = 400;
  const zoom = side / Math.max(...size);
  const [down, across] = [(size[0] * zoom) / rows, (size[1] * zoom) / columns];
  const panes = ["left", "right"].map((name) => {
    const canvas = h("canvas", { role: "img" });
    const pick = choice([...(name === "right" ? [["", "none"]] : []), ...moments.map((moment, i) => [i, moment])],
      () => go({ [name]: pick.value === "" ? null : +pick.value }));
    const labels = count(cells).map(() => h("span", { className: "vlm-named" }));
    const names = h("div", { className: "vlm-names", "aria-hidden": "true" }, ...labels);
    names.style.gridTemplate = `repeat(${rows}, 1fr) / repeat(${columns}, 1fr)`;
    const [marker, pointer] = [h("div", { className: "vlm-query" }), h("div", { className: "vlm-pointer", hidden: true })];
    const picture = h("div", { className: "vlm-picture", tabIndex: 0, role: "application", "aria-label": `Image, ${name}: arrow keys choose a token`, onkeydown: keys,
      onpointermove: (event) => hover(under(event, canvas)), onpointerleave: () => hover(null), onclick: (event) => go({ cell: under(event, canvas) }) },
      canvas, names, pointer, marker);
    const list = h("div", { className: "vlm-near", role: "list" });
    const title = h("div", { className: "vlm-words" });
    return { name, canvas, pick, labels, marker, pointer, list, title,
      element: h("div", { className: "vlm-pane" }, h("div", {}, title, picture), h("div", { className: "vlm-listed" }, list)) };
  });
  const scale = colourScale(table);
  [scale.low.textContent, scale.high.textContent] = [number(low), number(high)];
  const overlay = h("input", { type: "range", min: 0, max: 100, step: 5, value: 50, oninput: () => { strength = overlay.value / 100; draw(); } });
  const place = h("div", { className: "vlm-words", role: "status" });
  const both = h("div", { className: "vlm-panes" }, ...panes.map(({ element }) => element));

  // ---- moving about
  const under = (event, canvas) => cellOf(cellAt(event, canvas, grid), grid);

  function keys(event) {
    const place = arrowed(event, placeOf(view.cell, grid), grid);
    if (!place) return;
    hovered = null;
    go({ cell: cellOf(place, grid) });
  }

  function hover(cell) {
    hovered = cell;
    read();
  }

  // ---- drawing
  const cover = (element, cell) => layCell(element, placeOf(cell, grid), grid);

  function draw() {
    panes[1].element.hidden = view.right === null;
    both.classList.toggle("vlm-alone", view.right === null);
    for (const { name, canvas, pick, labels, marker } of panes) {
      pick.value = view[name] ?? "";
      cover(marker, view.cell);
      if (view[name] === null) continue;
      const best = count(cells).map((cell) => near(view[name], cell)[0]);
      const codes = Uint8Array.from(best, ({ score }) => Math.round(255 * fraction(score)));
      paint(canvas, overlaid(pixels, codes, table, strength, size, grid), ...size);
      fit(canvas, ...size, side);
      labels.forEach((label, cell) => {
        label.textContent = best[cell].word;
        label.hidden = strength === 0 || Math.min(down, across) < 20;
        label.style.fontSize = `${clamp((1.45 * across) / [...best[cell].word].length, 8, 13)}px`;
      });
    }
    read();
  }

  // The lists of the cell under the pointer, otherwise of the chosen one.
  function read() {
    const cell = hovered ?? view.cell;
    const where = placeName(placeOf(cell, grid));
    place.textContent = `Image token ${cell}: ${where}`;
    for (const { name, canvas, list, title, pointer } of panes) {
      pointer.hidden = hovered === null;
      cover(pointer, cell);
      if (view[name] === null) continue;
      const [moment, found] = [moments[view[name]], near(view[name], cell)];
      title.textContent = moments.length > 1 ? moment : measure;
      list.setAttribute("aria-label", `Nearest words, ${moment}`);
      list.replaceChildren(...found.map(({ word, score }) => {
        const bar = h("div", { className: "vlm-filled" });
        bar.style.width = `${100 * fraction(score)}%`;
        return h("div", { className: "vlm-near-word", role: "listitem" }, h("b", { title: word }, word), h("div", { className: "vlm-meter" }, bar), h("span", {}, score.toFixed(3)));
      }));
      canvas.setAttribute("aria-label", `${moment}, ${where}: ${found.map(({ word, score }) => `${word} ${score.toFixed(3)}`).join(", ")}`);
    }
    scale.point(fraction(near(view.left, cell)[0].score));
  }

  el.append(frame("lens", "Token lens",
    ...(moments.length > 1 ? [h("div", { className: "vlm-bar vlm-moments" }, labelled("Left", panes[0].pick), labelled("Right", panes[1].pick))] : []), both,
    h("div", { className: "vlm-range" }, scale.element, h("div", { className: "vlm-guess" }, `${measure} of the nearest word`)),
    h("div", { className: "vlm-side" }, place, h("div", { className: "vlm-bar" }, labelled("Overlay", overlay)))));
  draw();
  return subscribe(model, heard);
}

export default { render };
