const MEASURES = { gradient: "gradient norm", weight: "weight norm", ratio: "gradient / weight" };

function build(model) {
  const [rows, ranges] = [model.get("parts"), model.get("ranges")];
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(read);
  const measure = choice(Object.entries(MEASURES), () => go({ measure: measure.value }));

  const columns = rows.map((_, i) => {
    const [bar, line] = [div("vlm-height"), div("vlm-reach")];
    return { column: h("button", { type: "button", className: "vlm-column", onclick: () => go({ part: i }), ...pointed(hover, i) }, bar, line), bar, line };
  });
  const elements = columns.map(({ column }) => column);
  const keys = walking(() => elements, () => view.part, (part) => { hover(null); go({ part }); });
  const ticks = h("div", { className: "vlm-ticks", "aria-hidden": "true" });
  const chart = h("div", { className: "vlm-chart", role: "group", "aria-label": "Parts of the model, data flows from left to right; arrow keys move", onkeydown: keys },
    ticks, ...elements);
  const foot = div("vlm-foot", h("span"), ...rows.map(({ name }) => h("span", { className: "vlm-axis", title: name }, name)));
  if (rows.length > 9) foot.classList.add("vlm-upright");
  for (const row of [chart, foot]) row.style.gridTemplateColumns = `44px repeat(${rows.length}, minmax(14px, 1fr))`;
  const [words, facts, warning] = [says("vlm-words"), div("vlm-facts"), says()];

  const short = (value) => (value === 0 ? "0" : value >= 1e-3 && value < 1e5 ? String(+value.toPrecision(3)) : value.toExponential(1));
  const power = (n) => `10${[...String(n)].map((sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]).join("")}`;
  const kind = ({ parameters, trained }) => !parameters ? "no parameters of its own" : !trained ? "frozen" : trained < parameters ? `${trained.toLocaleString("en")} parameters trained` : "trained";
  const height = (value) => { const [low, high] = ranges[view.measure]; return value > 0 ? (Math.log10(value) - low) / (high - low) : null; };

  function draw() {
    measure.value = view.measure;
    drawTicks();
    press(elements, view.part);
    rows.forEach((row, i) => {
      const { column, bar, line } = columns[i];
      const [top, reach] = [height(row[view.measure]), view.measure === "gradient" ? height(row.through) : null];
      column.classList.toggle("vlm-frozen", row.trained === 0);
      column.setAttribute("aria-label", `${row.name}, ${kind(row)}: ${MEASURES[view.measure]} ${short(row[view.measure])}, gradient that reaches its output ${short(row.through)}`);
      bar.hidden = top === null;
      line.hidden = reach === null;
      bar.style.height = `${100 * (top ?? 0)}%`;
      line.style.bottom = `${100 * (reach ?? 0)}%`;
    });
    const cut = rows.filter(({ trained, gradient }) => trained > 0 && gradient === 0);
    warning.replaceChildren(...cut.map(({ name }) => div("vlm-warning", `⚠ ${name}: to be trained, but no gradient reaches it`)));
    read();
  }

  // Whole powers of ten, at most eight of them.
  function drawTicks() {
    const [low, high] = ranges[view.measure];
    const every = Math.ceil((high - low) / 8);
    ticks.replaceChildren(...count(high - low + 1).filter((n) => n % every === 0).map((n) =>
      h("span", { style: `bottom: ${(100 * n) / (high - low)}%` }, power(low + n))));
  }

  // The numbers of the part under the pointer, otherwise of the chosen one.
  function read() {
    const row = rows[hover.place ?? view.part];
    words.textContent = `${row.name}: ${kind(row)}${row.trained === 0 && row.through > 0 ? ", passes the gradient on" : ""}`;
    tabulate(facts, [["parameters", row.parameters.toLocaleString("en")], ["gradient norm", row.trained ? short(row.gradient) : "none"], ["weight norm", short(row.weight)],
      ["gradient / weight", row.trained ? short(row.ratio) : "none"], ["gradient that reaches its output", row.through ? short(row.through) : "none"]]);
  }

  const root = frame("flow", "Gradient flow",
    div("vlm-stretch", div("vlm-bar", labelled("Bars", measure)), chart, foot,
      legend([sample("vlm-learned"), "trained"], [sample("vlm-only-read"), "frozen"], [sign("◀", TEXT), "gradient that reaches its output"])),
    div("vlm-side", words, facts, warning));
  return { root, draw, heard };
}
