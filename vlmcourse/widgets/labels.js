const PARTS = { image: "image", text: "only read", learned: "learned" };
const IGNORED = -100;

function build(model) {
  const chats = model.get("chats");
  const [sets, context] = [model.get("sets"), model.get("context")];
  const unfolded = new Set(); // "conversation/first token" of the runs that are open
  const { view, go, heard } = viewer(model, draw);
  let [items, place] = [[], 0]; // what is drawn, and which of it is chosen
  const hover = hovering(read);

  // ---- the data of the conversation shown now
  const chat = () => chats[view.conversation];
  const numbers = (name) => new Int32Array(bytes(model.get("blobs")[name]).slice().buffer);
  const labels = (set) => numbers(`labels/${set}/${view.conversation}`);
  const quoted = (token) => `“${visible(chat().tokens[token])}”`;

  const conversation = choice(chats.map((_, i) => [i, `conversation ${i}`]), () => go({ conversation: +conversation.value, token: 0 }));
  const which = choice(sets.map((name, i) => [i, name]), () => go({ labels: +which.value }));
  const keys = walking(() => items.map(({ piece }) => piece), () => place, (to) => { hover(null); choose(to); });
  const turns = h("div", { className: "vlm-turns", role: "group", "aria-label": "Tokens; arrow keys move, Enter unfolds an image", onkeydown: keys });
  const [words, facts, problems] = [says("vlm-words"), div("vlm-facts"), says()];
  const [budget, total, signs] = [h("div", { className: "vlm-budget", role: "img" }), h("div"), div("vlm-stretch")];

  function choose(to) {
    place = to;
    go({ token: items[place].start }, mark);
  }

  function fold(at) {
    const name = `${view.conversation}/${items[at].start}`;
    if (!unfolded.delete(name)) unfolded.add(name);
    go({ token: items[at].start }, () => draw(at));
    items[at].piece.focus();
  }

  // Runs that are folded or unfolded have a head; every other token stands for itself.
  function draw(at = null) {
    const { tokens, roles, image, special, runs } = chat();
    hover.place = null;
    const [first, chosen, last] = [0, view.labels, sets.length - 1].map(labels);
    const looks = (token) => ["vlm-piece", chosen[token] === IGNORED ? "vlm-only-read" : "vlm-learned", ...when(image[token], "vlm-of-image"),
      ...when(special[token], "vlm-special"), ...when(roles[token] === "padding", "vlm-padding"),
      ...when((first[token] === IGNORED) !== (last[token] === IGNORED), "vlm-differs")].join(" ");
    items = runs.flatMap(([start, stop]) => {
      const open = unfolded.has(`${view.conversation}/${start}`);
      const head = when(stop - start > 1, { start, stop, open });
      return [...head, ...when(open || !head.length, ...count(stop - start).map((n) => ({ start: start + n, stop: start + n + 1 })))];
    });
    turns.replaceChildren();
    items.forEach((item, number) => {
      const { start, stop, open } = item;
      const opens = number === 0 || roles[start] !== roles[items[number - 1].start] || (special[start] && tokens[start] === `<${roles[start]}>`);
      if (opens) turns.append(div("vlm-turn", h("span", { className: "vlm-role" }, roles[start] || "–"), div("vlm-pieces")));
      const text = open === undefined ? visible(tokens[start]) : `${open ? "▾" : "▸"} ${visible(tokens[start])} ×${stop - start}`;
      item.piece = button(text, () => (open === undefined ? choose(number) : fold(number)), { className: looks(start), ...pointed(hover, number),
        "aria-label": [called(item), [roles[start], status(chosen, start)].filter(Boolean).join(", ")].join(": ") });
      if (open !== undefined) item.piece.ariaExpanded = String(open);
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
    const [{ stop }, row] = [items[place], labels(view.labels)];
    press(items.map(({ piece }) => piece), place);
    items.forEach(({ piece, start }) => piece.classList.toggle("vlm-predicted", start === stop && row[start] !== IGNORED));
    read();
  }

  // The numbers of the token under the pointer, otherwise of the chosen one.
  function read() {
    const { start, stop } = items[hover.place ?? place];
    const { tokens, roles } = chat();
    const many = stop - start > 1;
    words.textContent = many ? `Tokens ${start} to ${stop - 1}: ${stop - start} × ${visible(tokens[start])}` : `Token ${start}: ${visible(tokens[start])}`;
    const rows = sets.map((_, set) => labels(set));
    const learned = (row) => (row[start] === IGNORED ? `no, ${status(row, start)}` : start ? `yes, at position ${start - 1}, after ${quoted(start - 1)}` : "yes, but nothing stands before it");
    const next = (row) => (stop < tokens.length && row[stop] !== IGNORED ? `token ${stop}, ${quoted(stop)}, id ${row[stop]}` : "nothing");
    const id = numbers(`ids/${view.conversation}`)[start];
    facts.style.gridTemplateColumns = `max-content repeat(${sets.length}, minmax(max-content, 280px))`;
    tabulate(facts, [...when(sets.length > 1, ["labels", ...sets]), ["id and role", ...sets.map(() => `${id}, ${roles[start] || "no role"}`)],
      ["learned", ...rows.map(learned)], [many ? "its last position predicts" : "its position predicts", ...rows.map(next)]]);
  }

  function drawBudget() {
    const { totals, problems: found } = chat();
    const [now, most] = [totals[view.labels], Math.max(totals[view.labels].tokens, context ?? 0)];
    const part = (look, from, size) => lay(div(look), from / most, 0, size / most, 1);
    budget.replaceChildren(part("vlm-of-image", 0, now.image), part("vlm-only-read", now.image, now.text), part("vlm-learned", now.image + now.text, now.learned),
      ...when(now.over, part("vlm-over", context, now.over)), ...when(context, part("vlm-limit", context, 0)));
    const share = (name) => `${now[name]} ${PARTS[name]} (${((100 * now[name]) / now.tokens).toFixed(0)} %)`;
    const room = !context ? "" : now.over ? ` · ${now.over} too many for a context of ${context}` : ` · ${context - now.tokens} free of ${context}`;
    total.textContent = budget.ariaLabel = `${now.tokens} tokens: ${Object.keys(PARTS).map(share).join(", ")}${room}${now.padding ? ` · and ${now.padding} of padding` : ""}`;
    total.className = now.over ? "vlm-warning" : "";
    problems.replaceChildren(...found[view.labels].map((sentence) => div("vlm-warning", `⚠ ${sentence}`)));
    const differ = turns.querySelectorAll(".vlm-differs").length;
    signs.replaceChildren(legend([sample("vlm-of-image"), "image"], [sample("vlm-only-read"), "only read"], [sample("vlm-learned"), "learned"],
      ...when(sets.length > 1, [sign("≠"), `learned in one set only: ${differ}`])));
  }

  const choices = [...when(chats.length > 1, labelled("Conversation", conversation)), ...when(sets.length > 1, labelled("Labels", which))];
  const root = frame("labels", "Label-mask inspector", ...when(choices.length, div("vlm-bar", ...choices)), signs, turns,
    div("vlm-card", h("div", {}, words, facts)), div("vlm-stretch", budget, total), problems);
  return { root, draw, heard };
}
