const [WIDTH, HEIGHT, EDGE, NEAR] = [520, 420, 28, 14];
const CLOUDS = { image: IMAGE, text: TEXT };

function build(model) {
  const { labels, paired, gap, variance, stops, furthest, thumbnail } = model.get("shape");
  const store = new Store(model, draw);
  const [image, text, recall] = ["images", "texts", "recall"].map((name) => floats(store.peek(name)));
  const [still, names] = [{ image, text }, { image: labels[0], text: labels[1] }];
  const { view, go, heard } = viewer(model, draw);
  const hover = hovering(draw);

  // ---- the plane: one scale for both axes, wide enough for every place the texts can be moved to
  const mean = (points) => [0, 1].map((axis) => points.reduce((sum, value, i) => (i % 2 === axis ? sum + value : sum), 0) / (points.length / 2));
  const [middle, other] = [mean(image), mean(text)];
  const between = [other[0] - middle[0], other[1] - middle[1]];
  const at = ({ cloud, point }, closed = view.closed) => [0, 1].map((axis) => still[cloud][2 * point + axis] - (cloud === "text" ? closed * between[axis] : 0));
  const all = ["image", "text"].flatMap((cloud) => names[cloud].map((_, point) => ({ cloud, point })));
  const reach = all.flatMap((place) => [at(place, 0), at(place, furthest)]);
  const ends = [0, 1].map((axis) => reach.reduce(([low, high], p) => [Math.min(low, p[axis]), Math.max(high, p[axis])], [Infinity, -Infinity]));
  const zoom = Math.min(...[WIDTH, HEIGHT].map((side, axis) => (side - 2 * EDGE) / (ends[axis][1] - ends[axis][0] || 1)));
  const screen = ([x, y]) => [WIDTH / 2 + zoom * (x - (ends[0][0] + ends[0][1]) / 2), HEIGHT / 2 - zoom * (y - (ends[1][0] + ends[1][1]) / 2)];

  const closing = slider(stops - 1, () => go({ closed: (furthest * closing.value) / (stops - 1) }));
  const closed = h("output");
  const lines = h("input", { type: "checkbox", onchange: () => go({ lines: lines.checked }) });
  const [length, ranks] = [h("b", { className: "vlm-number" }), h("div")];
  const canvas = h("canvas", { role: "img", className: "vlm-plane" });
  const area = h("div", { className: "vlm-picture", tabIndex: 0, role: "application", "aria-label": "Feature clouds: left and right walk along a cloud, up and down change between images and texts",
    onkeydown: keys, onpointermove: (event) => hover(nearest(event)), onpointerleave: () => hover(null), onclick: (event) => go(nearest(event)) }, canvas);
  const small = h("canvas", { role: "img" });
  if (thumbnail) fit(small, ...thumbnail, 96);
  const [label, words] = [h("p", { className: "vlm-caption" }), says()];

  function keys(event) {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    hover.place = null;
    const cloud = step[0] ? (view.cloud === "image" ? "text" : "image") : view.cloud;
    const point = view.point === null ? 0 : view.point + step[1];
    go({ cloud, point: clamp(point, 0, names[cloud].length - 1) });
  }

  function nearest({ clientX, clientY }) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [((clientX - box.left) / box.width) * WIDTH, ((clientY - box.top) / box.height) * HEIGHT];
    const far = (place) => { const [px, py] = screen(at(place)); return Math.hypot(px - x, py - y); };
    const best = all.reduce((a, b) => (far(b) < far(a) ? b : a));
    return far(best) <= NEAR ? best : null;
  }

  // A circle for an image, a triangle for a text; with an edge, if one is given.
  function mark(pen, cloud, [x, y], radius, edge = null) {
    pen.beginPath();
    if (cloud === "image") pen.arc(x, y, radius, 0, 7);
    else for (const [dx, dy] of [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]]) pen.lineTo(x + dx * radius, y + dy * radius);
    pen.closePath();
    Object.assign(pen, { fillStyle: CLOUDS[cloud], strokeStyle: edge, lineWidth: 2.5 });
    pen.fill();
    if (edge) pen.stroke();
  }

  function drawPlane(chosen) {
    const pen = sharpPen(canvas, WIDTH, HEIGHT);
    const pair = (point) => ["image", "text"].map((cloud) => screen(at({ cloud, point })));
    Object.assign(pen, { globalAlpha: 0.45, strokeStyle: GREY, lineWidth: 0.8 });
    if (paired && view.lines) names.image.forEach((_, point) => stroke(pen, pair(point)));
    const radius = all.length > 400 ? 3 : 4.5;
    pen.globalAlpha = 0.9;
    for (const place of all) mark(pen, place.cloud, screen(at(place)), radius);
    Object.assign(pen, { globalAlpha: 1, strokeStyle: GREY, lineWidth: 3 });
    const means = { image: screen(middle), text: screen(other.map((value, axis) => value - view.closed * between[axis])) };
    stroke(pen, [means.image, means.text]);
    Object.assign(pen, { strokeStyle: ACCENT, lineWidth: 2 });
    if (paired && chosen) stroke(pen, pair(chosen.point));
    for (const [cloud, place] of Object.entries(means)) mark(pen, cloud, place, 9, "#ffffff");
    if (chosen) mark(pen, chosen.cloud, screen(at(chosen)), 7, ACCENT);
    Object.assign(pen, { fillStyle: GREY, font: "12px system-ui, sans-serif", textAlign: "center" });
    const axis = (i) => `direction ${i + 1} · ${(100 * variance[i]).toFixed(0)} % of the variance`;
    pen.fillText(axis(0), WIDTH / 2, HEIGHT - 6);
    pen.rotate(-Math.PI / 2);
    pen.fillText(axis(1), -HEIGHT / 2, 12);
  }

  function draw() {
    const stop = clamp(Math.round((view.closed / furthest) * (stops - 1)), 0, stops - 1);
    const left = Math.abs(1 - view.closed) * gap;
    [closing.value, lines.checked] = [stop, view.lines];
    closed.textContent = closing.ariaValueText = `${(100 * view.closed).toFixed(0)} % closed`;
    length.textContent = left.toFixed(3);
    const percent = (i, column) => `${(100 * recall[2 * i + column]).toFixed(0)} %`;
    ranks.replaceChildren(...(paired ? ["image → text", "text → image"] : []).map((name, column) =>
      h("div", {}, `R@1 ${name} `, h("b", {}, percent(stop, column)), stop ? ` (${percent(0, column)} at first)` : "")));
    const chosen = hover.place ?? (view.point === null ? null : { cloud: view.cloud, point: view.point });
    drawPlane(chosen);
    canvas.setAttribute("aria-label", `${names.image.length} image features and ${names.text.length} text features; the gap is ${length.textContent}. ${ranks.innerText}`);
    read(chosen);
  }

  function read(chosen) {
    label.textContent = chosen ? names[chosen.cloud][chosen.point] : "";
    words.textContent = chosen ? `${chosen.cloud} ${chosen.point}` : "Point at a mark, or use the arrow keys.";
    const pixels = thumbnail && chosen && (paired || chosen.cloud === "image") ? store.get(`thumbnail/${chosen.point}`) : null;
    small.hidden = !pixels;
    if (pixels) paint(small, pixels, ...thumbnail);
  }

  const root = frame("clouds", "Feature clouds", h("div", {}, area),
    div("vlm-side",
      legend([sign("●", IMAGE), "image features"], [sign("▲", TEXT), "text features"], ["", "large: the means, and the gap between them"]),
      div("vlm-bar", labelled("Close the gap", closing), closed),
      div("vlm-bar", "Length of the gap", length),
      ...when(paired, ranks, labelled("Lines between pairs", lines)),
      div("vlm-card", small, h("div", {}, label, words))));
  return { root, draw, heard: { "msg:custom": store.receive, ...heard } };
}
