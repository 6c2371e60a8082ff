// Text with `code` in backticks, as children of an element.
function coded(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

function build(model) {
  const choices = model.get("choices");
  const name = `vlm-quiz-${Math.random()}`; // which the radio buttons of this question share, and no others
  const rows = choices.map(([text, right, explanation], i) => {
    const radio = h("input", { type: "radio", name, value: i, onchange: () => { checking.disabled = false; } });
    const mark = h("span", { className: "vlm-mark", "aria-hidden": "true" });
    const why = h("p", { className: "vlm-why", hidden: true }, ...coded(explanation));
    return { radio, mark, why, right, row: div("vlm-choice", h("label", {}, radio, h("span", {}, ...coded(text)), mark), why) };
  });
  const verdict = h("span", { className: "vlm-verdict", role: "status" });
  const checking = button("Check", check, { disabled: true });

  function check() {
    const chosen = rows.findIndex(({ radio }) => radio.checked);
    if (chosen < 0) return;
    remember(model, "chosen", chosen);
    show(chosen);
  }

  // Explains the chosen answer; once it is right, all the others too.
  function show(chosen) {
    const { right } = rows[chosen];
    rows.forEach((other, i) => {
      if (i !== chosen && !right) return;
      other.why.hidden = false;
      other.mark.textContent = other.right ? "✓" : "✗";
      other.row.className = `vlm-choice ${other.right ? "vlm-right" : "vlm-wrong"}${i === chosen ? "" : " vlm-aside"}`;
    });
    verdict.textContent = right ? "Right." : "Not this one; read why, then try again.";
  }

  function draw() {
    const chosen = model.get("chosen");
    if (chosen === null || chosen === undefined) return;
    rows[chosen].radio.checked = true;
    show(chosen);
  }

  const root = frame("quiz", "Quiz",
    h("fieldset", { onkeydown: (event) => { if (event.key === "Enter" && event.target.type === "radio") check(); } },
      h("legend", {}, ...coded(model.get("question"))), ...rows.map(({ row }) => row)),
    div("vlm-bar", checking, verdict));
  return { root, draw };
}
