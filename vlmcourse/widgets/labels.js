function render({ model, el }) {
  el.append(frame("labels", "labels", h("div", {}, "…")));
}

export default { render };
