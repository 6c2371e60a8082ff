const PARTS = { image: "image", text: "only read", learned: "learned" };
const IGNORED = -100;

function render({ model, el }) {
  const chats = model.get("chats");
  const [sets, context] = [model.get("sets"), model.get("context")];
  const unfolded = new Set(); // "conversation/first token" of the runs that are open
  const { view, go, heard } = viewer(model, build);
  let [items, place, hovered] = [[], 0, null]; // what is drawn, and which of it is chosen or pointed at

  // ---- the data of the conversation shown now
  const chat = () => chats[view.conversation];
  const numbers = (name) => new Int32Array(bytes(model.get("blobs")[name]).slice().buffer);
  const ids = () => numbers(`ids/${view.conversation}`);
  const labels = (set) => numbers(`labels/${set}/${view.conversation}`);
  const quoted = (token) => `“${visible(chat().tokens[token])}”`;
  const size = (stop, start) => `×${stop - start}`;

  // ---- the controls
  const conversation = choice(chats.map(({ name }, i) => [i, name]), () => go({ conversation: +conversation.value, token: 0 }));
  const which = choice(sets.map((name, i) => [i, name]), () => go({ labels: +which.value }));
  const turns = h("div", { className: "vlm-turns", role: "group", "aria-label": "Tokens; arrow keys move, Enter unfolds an image", onkeydown: keys });
  const [words, facts] = [h("div", { className: "vlm-words", role: "status" }), h("div", { className: "vlm-facts" })];
  const [budget, total] = [h("div", { className: "vlm-budget", role: "img" }), h("div")];
  const problems = h("div", { role: "status" });
  const legend = h("div", { className: "vlm-legend" });

  function keys(event) {
    const to = walked(event, place, items.length);
    if (to === null) return;
    hovered = null;
    choose(to);
    items[place].piece.focus();
  }

  function choose(to) {
    place = to;
    go({ token: items[place].start }, mark);
  }

  function fold(at) {
    const name = `${view.conversation}/${items[at].start}`;
    if (!unfolded.delete(name)) unfolded.add(name);
    go({ token: items[at].start }, () => build(at));
    items[at].piece.focus();
  }

  // ---- drawing
  // Runs that are folded or unfolded have a head; every other token stands for itself.
  function build(at = null) {
    const { tokens, roles, image, special, runs } = chat();
    hovered = null;
    const [first, chosen, last] = [0, view.labels, sets.length - 1].map(labels);
    const looks = (token) => ["vlm-piece", image[token] ? "vlm-of-image" : "", chosen[token] === IGNORED ? "vlm-only-read" : "vlm-learned",
      special[token] ? "vlm-special" : "", roles[token] === "padding" ? "vlm-padding" : "",
      (first[token] === IGNORED) !== (last[token] === IGNORED) ? "vlm-differs" : ""].filter(Boolean).join(" ");
    items = runs.flatMap(([start, stop]) => {
      const open = unfolded.has(`${view.conversation}/${start}`);
      const head = stop - start > 1 ? [{ start, stop, open }] : [];
      return [...head, ...(open || !head.length ? count(stop - start).map((n) => ({ start: start + n, stop: start + n + 1 })) : [])];
    });
    turns.replaceChildren();
    items.forEach((item, number) => {
      const { start, stop, open } = item;
      const opens = number === 0 || roles[start] !== roles[items[number - 1].start] || (special[start] && tokens[start] === `<${roles[start]}>`);
      if (opens) turns.append(h("div", { className: "vlm-turn" }, h("span", { className: "vlm-role" }, roles[start] || "–"), h("div", { className: "vlm-pieces" })));
      const text = open === undefined ? visible(tokens[start]) : `${open ? "▾" : "▸"} ${visible(tokens[start])} ${size(stop, start)}`;
      item.piece = h("button", { type: "button", className: looks(start), onclick: () => (open === undefined ? choose(number) : fold(number)),
        onpointerenter: () => { hovered = number; read(); }, onpointerleave: () => { hovered = null; read(); } }, text);
      if (open !== undefined) item.piece.ariaExpanded = String(open);
      item.piece.setAttribute("aria-label", `${called(item)}: ${[roles[start], status(chosen, start)].filter(Boolean).join(", ")}`);
      turns.lastChild.lastChild.append(item.piece);
    });
    [conversation.value, which.value] = [view.conversation, view.labels];
    place = at ?? items.reduce((best, { start, stop }, number) => (start <= view.token && view.token < stop ? number : best), 0);
    drawBudget();
    mark();
  }

  const called = ({ start, stop }) => stop - start > 1 ? `tokens ${start} to ${stop - 1}, ${stop - start} × ${chat().tokens[start]}` : `token ${start}, ${chat().tokens[start]}`;
  const status = (row, token) => (chat().roles[token] === "padding" ? "padding, not read" : row[token] === IGNORED ? "only read" : "learned");

  // The chosen token, and the one that its position has to predict.
  function mark() {
    const { stop } = items[place];
    const row = labels(view.labels);
    items.forEach(({ piece, start }, number) => {
      piece.setAttribute("aria-pressed", number === place);
      piece.tabIndex = number === place ? 0 : -1;
      piece.classList.toggle("vlm-predicted", start === stop && row[start] !== IGNORED);
    });
    read();
  }

  // The numbers of the token under the pointer, otherwise of the chosen one.
  function read() {
    if (!items.length) return;
    const { start, stop } = items[hovered ?? place];
    const { tokens, roles } = chat();
    const many = stop - start > 1;
    words.textContent = many ? `Tokens ${start} to ${stop - 1}: ${stop - start} × ${visible(tokens[start])}` : `Token ${start}: ${visible(tokens[start])}`;
    const rows = sets.map((_, set) => labels(set));
    const learned = (row) => (row[start] !== IGNORED ? (start ? `yes, at position ${start - 1}, after ${quoted(start - 1)}` : "yes, but nothing stands before it") : `no, ${status(row, start)}`);
    const next = (row) => (stop < tokens.length && row[stop] !== IGNORED ? `token ${stop}, ${quoted(stop)}, id ${row[stop]}` : "nothing");
    const told = [...(sets.length > 1 ? [["labels", ...sets]] : []), ["id and role", ...sets.map(() => `${ids()[start]}, ${roles[start] || "no role"}`)],
      ["learned", ...rows.map(learned)], [many ? "its last position predicts" : "its position predicts", ...rows.map(next)]];
    facts.style.gridTemplateColumns = `max-content repeat(${sets.length}, minmax(max-content, 280px))`;
    facts.replaceChildren(...told.flatMap(([name, ...values]) => [h("span", {}, name), ...values.map((value) => h("b", {}, value))]));
  }

  function drawBudget() {
    const { totals, problems: found } = chat();
    const [now, most] = [totals[view.labels], Math.max(totals[view.labels].tokens, context ?? 0)];
    const part = (kind, count) => { const bar = h("div", { className: `vlm-part-of vlm-${kind}` }); bar.style.width = `${(100 * count) / most}%`; return bar; };
    budget.replaceChildren(part("of-image", now.image), part("only-read", now.text), part("learned", now.learned));
    if (context) {
      const limit = h("div", { className: "vlm-limit" });
      limit.style.left = `${(100 * context) / most}%`;
      const over = h("div", { className: "vlm-over" });
      lay(over, context / most, 0, now.over / most, 1);
      budget.append(...(now.over ? [over] : []), limit);
    }
    const share = (name) => `${now[name]} ${PARTS[name]} (${((100 * now[name]) / now.tokens).toFixed(0)} %)`;
    const room = !context ? "" : now.over ? ` · ${now.over} too many for a context of ${context}` : ` · ${context - now.tokens} free of ${context}`;
    total.textContent = budget.ariaLabel = `${now.tokens} tokens: ${Object.keys(PARTS).map(share).join(", ")}${room}${now.padding ? ` · and ${now.padding} of padding` : ""}`;
    total.className = now.over ? "vlm-warning" : "";
    problems.replaceChildren(...found[view.labels].map((sentence) => h("div", { className: "vlm-warning" }, `⚠ ${sentence}`)));
    const differ = turns.querySelectorAll(".vlm-differs").length;
    legend.replaceChildren(...[["vlm-of-image", "image"], ["vlm-only-read", "only read"], ["vlm-learned", "learned"]].map(([name, text]) =>
      h("span", {}, h("span", { className: `vlm-sample ${name}` }), ` ${text}`)), ...(sets.length > 1 ? [h("span", {}, h("i", {}, "≠"), ` learned in one set only: ${differ}`)] : []));
  }

  el.append(frame("labels", "Label-mask inspector",
    ...(chats.length > 1 || sets.length > 1 ? [h("div", { className: "vlm-bar" }, ...(chats.length > 1 ? [labelled("Conversation", conversation)] : []),
      ...(sets.length > 1 ? [labelled("Labels", which)] : []))] : []),
    legend, turns, h("div", { className: "vlm-card" }, h("div", {}, words, facts)),
    h("div", { className: "vlm-stretch" }, budget, total), problems));
  build();
  return subscribe(model, heard);
}

export default { render };
