function build(model) {
  const scenes = model.get("scenes");
  const [height, width, size] = model.get("size");
  const store = new Store(model, draw);
  const pages = Math.ceil(scenes.length / size);
  let chosen = model.get("chosen");

  const thumbs = count(size).map((place) => {
    const canvas = fit(h("canvas"), height, width, 76);
    return { canvas, thumb: button(canvas, () => choose(page() * size + place), { className: "vlm-thumb" }) };
  });
  const where = h("span", { className: "vlm-where", role: "status" });
  const turn = (by, arrow, name) => button(arrow, () => choose(clamp(page() + by, 0, pages - 1) * size), { "aria-label": name });
  const [previous, next] = [turn(-1, "‹", "Previous page"), turn(1, "›", "Next page")];
  const large = fit(h("canvas", { role: "img" }), height, width, 304);
  const picture = div("vlm-picture", large);
  const caption = h("p", { className: "vlm-caption" });
  const questions = h("div", { role: "list", "aria-label": "Questions" });
  const page = () => Math.floor(chosen / size);

  function choose(scene) {
    chosen = clamp(scene, 0, scenes.length - 1);
    remember(model, "chosen", chosen);
    draw();
  }

  function keys(event) {
    const step = ARROWS[event.key];
    const by = step ? step[0] * 4 + step[1] : { PageUp: -size, PageDown: size }[event.key];
    if (!by) return;
    event.preventDefault();
    choose(chosen + by);
    thumbs[chosen % size].thumb.focus();
  }

  const point = (boxes) => picture.replaceChildren(large, ...boxes.map(([left, top, right, bottom]) =>
    lay(div("vlm-box"), left / width, top / height, (right - left) / width, (bottom - top) / height)));

  function ask({ question, answer, boxes }) {
    const [show, hide] = [() => point(boxes), () => point([])];
    return h("div", { role: "listitem" }, h("button", { type: "button", className: "vlm-question", onmouseenter: show, onfocus: show,
      onmouseleave: hide, onblur: hide }, h("span", {}, question), h("b", {}, answer)));
  }

  function draw() {
    const first = page() * size;
    const pixels = store.get(`page/${page()}`);
    const one = height * width * 3;
    press(thumbs.map(({ thumb }) => thumb), chosen - first);
    thumbs.forEach(({ thumb, canvas }, place) => {
      const scene = first + place;
      thumb.hidden = scene >= scenes.length;
      if (thumb.hidden) return;
      thumb.setAttribute("aria-label", `Scene ${scene}: ${scenes[scene].caption}`);
      if (pixels) paint(canvas, pixels.subarray(place * one, (place + 1) * one), height, width);
    });
    if (pixels) paint(large, pixels.subarray((chosen - first) * one, (chosen - first + 1) * one), height, width);
    const { caption: text, records } = scenes[chosen];
    large.setAttribute("aria-label", `Scene ${chosen}: ${text}`);
    where.textContent = `${first}–${Math.min(first + size, scenes.length) - 1} of ${scenes.length}`;
    [previous.disabled, next.disabled] = [page() === 0, page() === pages - 1];
    caption.textContent = text;
    questions.replaceChildren(...records.map(ask));
    point([]);
  }

  const root = frame("scenes", "Scene browser",
    h("div", {}, h("div", { className: "vlm-thumbs", role: "group", "aria-label": "Scenes; arrow keys move", onkeydown: keys },
      ...thumbs.map(({ thumb }) => thumb)), div("vlm-bar", previous, where, next)),
    picture, div("vlm-side", caption, questions));
  return { root, draw, heard: { "msg:custom": store.receive, "change:chosen": () => { chosen = model.get("chosen"); draw(); } } };
}
