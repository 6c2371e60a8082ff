const MEASURES = { gradient: "gradient norm", weight: "weight norm", ratio: "gradient / weight" };

function render({ model, el }) {
  const reports = model.get("parts");
  const [steps, ranges] = [model.get("steps"), model.get("ranges")];
  const names = reports[0].map(({ name }) => name);
  const { view, go, heard } = viewer(model, draw);
  let hovered = null;

  // ---- the controls
  const measure = choice(Object.entries(MEASURES), () => go({ measure: measure.value }));
  const training = trainingPlayback(steps, view, go);

  // ---- the columns, in the order of the data flow
  const columns = names.map((name, i) => {
    const [bar, line] = [h("div", { className: "vlm-height" }), h("div", { className: "vlm-reach" })];
    const column = h("button", { type: "button", className: "vlm-column", onclick: () => go({ part: i }),
      onpointerenter: () => { hovered = i; read(); }, onpointerleave: () => { hovered = null; read(); } }, bar, line);
    return { column, bar, line };
  });
  const ticks = h("div", { className: "vlm-ticks", "aria-hidden": "true" });
  const chart = h("div", { className: "vlm-chart", role: "group", "aria-label": "Parts of the model, data flows from left to right; arrow keys move", onkeydown: keys },
    ticks, ...columns.map(({ column }) => column));
  const foot = h("div", { className: "vlm-foot" }, h("span"), ...names.map((name) => h("span", { className: "vlm-axis", title: name }, name)));
  if (names.length > 9) foot.classList.add("vlm-upright");
  for (const row of [chart, foot]) row.style.gridTemplateColumns = `44px repeat(${names.length}, minmax(14px, 1fr))`;
  const [words, facts, warning] = [h("div", { className: "vlm-words", role: "status" }), h("div", { className: "vlm-facts" }), h("div", { role: "status" })];
  const legend = h("div", { className: "vlm-legend" }, ...[["vlm-learned", "trained"], ["vlm-only-read", "frozen"]].map(([look, text]) =>
    h("span", {}, h("span", { className: `vlm-sample ${look}` }), ` ${text}`)), h("span", {}, h("i", { className: "vlm-of-text" }, "◀"), " gradient that reaches its output"));

  // ---- moving about
  function keys(event) {
    const part = walked(event, view.part, names.length);
    if (part === null) return;
    hovered = null;
    go({ part });
    columns[part].column.focus();
  }

  // ---- drawing
  const short = (value) => (value === 0 ? "0" : value >= 1e-3 && value < 1e5 ? String(+value.toPrecision(3)) : value.toExponential(1));
  const kind = ({ parameters, trained }) => !parameters ? "no parameters of its own" : !trained ? "frozen" : trained < parameters ? `${trained.toLocaleString("en")} parameters trained` : "trained";
  const height = (value) => { const [low, high] = ranges[view.measure]; return value > 0 ? (Math.log10(value) - low) / (high - low) : null; };

  function draw() {
    const rows = reports[view.step];
    measure.value = view.measure;
    training.show();
    drawTicks();
    rows.forEach((row, i) => {
      const { column, bar, line } = columns[i];
      const [top, reach] = [height(row[view.measure]), view.measure === "gradient" ? height(row.through) : null];
      column.classList.toggle("vlm-frozen", row.trained === 0);
      column.classList.toggle("vlm-passed", row.trained === 0 && row.through > 0);
      column.setAttribute("aria-pressed", i === view.part);
      column.tabIndex = i === view.part ? 0 : -1;
      column.setAttribute("aria-label", `${row.name}, ${kind(row)}: ${MEASURES[view.measure]} ${short(row[view.measure])}, gradient that reaches its output ${short(row.through)}`);
      bar.hidden = top === null;
      line.hidden = reach === null;
      bar.style.height = `${100 * (top ?? 0)}%`;
      line.style.bottom = `${100 * (reach ?? 0)}%`;
    });
    const cut = rows.filter(({ trained, gradient }) => trained > 0 && gradient === 0);
    warning.replaceChildren(...cut.map(({ name }) => h("div", { className: "vlm-warning" }, `⚠ ${name}: to be trained, but no gradient reaches it`)));
    read();
  }

  // Whole powers of ten, at most eight of them.
  function drawTicks() {
    const [low, high] = ranges[view.measure];
    const every = Math.ceil((high - low) / 8);
    ticks.replaceChildren(...count(high - low + 1).filter((n) => n % every === 0).map((n) => {
      const tick = h("span", {}, short(10 ** (low + n)));
      tick.style.bottom = `${(100 * n) / (high - low)}%`;
      return tick;
    }));
  }

  // The numbers of the part under the pointer, otherwise of the chosen one.
  function read() {
    const row = reports[view.step][hovered ?? view.part];
    words.textContent = `${row.name}: ${kind(row)}${row.trained === 0 && row.through > 0 ? ", passes the gradient on" : ""}`;
    const told = [["parameters", row.parameters.toLocaleString("en")], ["gradient norm", row.trained ? short(row.gradient) : "none"], ["weight norm", short(row.weight)],
      ["gradient / weight", row.trained ? short(row.ratio) : "none"], ["gradient that reaches its output", row.through ? short(row.through) : "none"]];
    facts.replaceChildren(...told.flatMap(([name, value]) => [h("span", {}, name), h("b", {}, value)]));
  }

  el.append(frame("flow", "Gradient flow",
    h("div", { className: "vlm-stretch" },
      h("div", { className: "vlm-bar" }, labelled("Bars", measure), ...training.controls),
      chart, foot, legend),
    h("div", { className: "vlm-side" }, words, facts, warning)));
  draw();
  const end = subscribe(model, heard);
  return () => { training.stop(); end(); };
}

export default { render };
