function render({ model, el }) {
  const scenes = model.get("scenes");
  const [height, width, size] = model.get("size");
  const store = new Store(model, draw);
  const pages = Math.ceil(scenes.length / size);
  let chosen = model.get("chosen");

  const thumbs = Array.from({ length: size }, (_, place) => {
    const canvas = h("canvas");
    fit(canvas, height, width, 76);
    const button = h("button", { type: "button", className: "vlm-thumb", onclick: () => choose(page() * size + place) }, canvas);
    return { button, canvas };
  });
  const where = h("span", { className: "vlm-where", role: "status" });
  const turn = (by) => h("button", { type: "button", className: "vlm-button", "aria-label": by < 0 ? "Previous page" : "Next page",
    onclick: () => choose(clamp(page() + by, 0, pages - 1) * size) }, by < 0 ? "‹" : "›");
  const [previous, next] = [turn(-1), turn(1)];
  const large = h("canvas", { role: "img" });
  fit(large, height, width, 304);
  const picture = h("div", { className: "vlm-picture" }, large);
  const caption = h("p", { className: "vlm-caption" });
  const questions = h("div", { className: "vlm-questions", role: "list", "aria-label": "Questions" });
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
    thumbs[chosen % size].button.focus();
  }

  const point = (boxes) => {
    picture.querySelectorAll(".vlm-box").forEach((box) => box.remove());
    for (const [left, top, right, bottom] of boxes) {
      const box = h("div", { className: "vlm-box" });
      lay(box, left / width, top / height, (right - left) / width, (bottom - top) / height);
      picture.append(box);
    }
  };

  function ask({ question, answer, boxes }) {
    const [show, hide] = [() => point(boxes), () => point([])];
    return h("div", { role: "listitem" }, h("button", { type: "button", className: "vlm-question", onmouseenter: show, onfocus: show,
      onmouseleave: hide, onblur: hide }, h("span", {}, question), h("b", {}, answer)));
  }

  function draw() {
    const first = page() * size;
    const pixels = store.get(`page/${page()}`);
    const one = height * width * 3;
    thumbs.forEach(({ button, canvas }, place) => {
      const scene = first + place;
      button.hidden = scene >= scenes.length;
      if (button.hidden) return;
      button.setAttribute("aria-label", `Scene ${scene}: ${scenes[scene].caption}`);
      button.setAttribute("aria-pressed", scene === chosen);
      button.tabIndex = scene === chosen ? 0 : -1;
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

  el.append(frame("scenes", "Scene browser",
    h("div", {}, h("div", { className: "vlm-thumbs", role: "group", "aria-label": "Scenes; arrow keys move", onkeydown: keys },
      ...thumbs.map(({ button }) => button)),
    h("div", { className: "vlm-bar" }, previous, where, next)),
    picture, h("div", { className: "vlm-side" }, caption, questions)));
  draw();
  return subscribe(model, { "msg:custom": store.receive, "change:chosen": () => { chosen = model.get("chosen"); draw(); } });
}

export default { render };
