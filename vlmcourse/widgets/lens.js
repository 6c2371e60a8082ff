function render({ model, el }) {
  el.append(frame("lens", "lens", h("div", {}, "…")));
}

export default { render };
