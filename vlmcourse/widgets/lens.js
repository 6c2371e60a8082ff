function build(model) {
  const { size, rows, columns, k, moments, measure, low, high } = model.get("shape");
  const [pixels, scores] = [bytes(model.get("blobs").image), floats(model.get("blobs").scores)];
  const words = model.get("words");
  const table = bytes(model.get("colours"));
  const [grid, cells] = [[rows, columns], rows * columns];
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(read);

  const fraction = (score) => clamp((score - low) / (high - low), 0, 1);
  const near = (moment, cell) => count(k).map((i) => { const at = (moment * cells + cell) * k + i; return { word: words[at], score: scores[at] }; });

  // ---- one picture with its words, and its list; there are two of both, the second may be hidden
  const side = 400;
  const zoom = side / Math.max(...size);
  const [down, across] = [(size[0] * zoom) / rows, (size[1] * zoom) / columns];
  const panes = ["left", "right"].map((name) => {
    const pick = choice([...(name === "right" ? [["", "none"]] : []), ...moments.map((moment, i) => [i, moment])],
      () => go({ [name]: pick.value === "" ? null : +pick.value }));
    const labels = count(cells).map(() => h("span", { className: "vlm-named" }));
    const names = h("div", { className: "vlm-names", "aria-hidden": "true", style: `grid-template: repeat(${rows}, 1fr) / repeat(${columns}, 1fr)` }, ...labels);
    const marker = div("vlm-box");
    const { area, canvas, point } = cellPicture({ grid, label: `Image, ${name}: arrow keys choose a token`,
      at: () => placeOf(view.cell, grid), hover, choose: (place) => go({ cell: cellOf(place, grid) }) }, names, marker);
    const list = h("div", { className: "vlm-near", role: "list" });
    const title = div("vlm-words");
    return { name, canvas, pick, labels, marker, point, list, title,
      element: div("vlm-pane", h("div", {}, title, area), div("vlm-listed", list)) };
  });
  const [scale, strength, where] = [colourScale(table), overlaySlider(draw), says("vlm-words")];
  [scale.low.textContent, scale.high.textContent] = [number(low), number(high)];
  const both = div("vlm-panes", ...panes.map(({ element }) => element));

  function draw() {
    panes[1].element.hidden = view.right === null;
    both.classList.toggle("vlm-alone", view.right === null);
    for (const { name, canvas, pick, labels, marker } of panes) {
      pick.value = view[name] ?? "";
      layCell(marker, placeOf(view.cell, grid), grid);
      if (view[name] === null) continue;
      const best = count(cells).map((cell) => near(view[name], cell)[0]);
      const codes = Uint8Array.from(best, ({ score }) => Math.round(255 * fraction(score)));
      paint(canvas, overlaid(pixels, codes, table, strength.value / 100, size, grid), ...size);
      fit(canvas, ...size, side);
      labels.forEach((label, cell) => {
        label.textContent = best[cell].word;
        label.hidden = strength.value === "0" || Math.min(down, across) < 20;
        label.style.fontSize = `${clamp((1.45 * across) / [...best[cell].word].length, 8, 13)}px`;
      });
    }
    read();
  }

  // The lists of the cell under the pointer, otherwise of the chosen one.
  function read() {
    const place = hover.place ?? placeOf(view.cell, grid);
    const cell = cellOf(place, grid);
    where.textContent = `Image token ${cell}: ${placeName(place)}`;
    for (const { name, canvas, list, title, point } of panes) {
      point(hover.place);
      if (view[name] === null) continue;
      const [moment, found] = [moments[view[name]], near(view[name], cell)];
      title.textContent = moments.length > 1 ? moment : measure;
      list.setAttribute("aria-label", `Nearest words, ${moment}`);
      list.replaceChildren(...found.map(({ word, score }) => {
        const bar = meter();
        bar.fill(fraction(score));
        return h("div", { className: "vlm-near-word", role: "listitem" }, h("b", { title: word }, word), bar.element, h("span", {}, score.toFixed(3)));
      }));
      canvas.setAttribute("aria-label", `${moment}, ${placeName(place)}: ${found.map(({ word, score }) => `${word} ${score.toFixed(3)}`).join(", ")}`);
    }
    scale.point(fraction(near(view.left, cell)[0].score));
  }

  const choices = div("vlm-bar vlm-moments", labelled("Left", panes[0].pick), labelled("Right", panes[1].pick));
  const root = frame("lens", "Token lens", ...when(moments.length > 1, choices), both,
    div("vlm-range", scale.element, div("vlm-guess", `${measure} of the nearest word`)),
    div("vlm-side", where, div("vlm-bar", labelled("Overlay", strength))));
  return { root, draw, heard };
}
